"""How the server is set up, the same for the program and for tests."""

import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from app.server.protocol import protocol
from core.settings import Settings

GRACE_SECONDS = 3
FILES = 65_536


def configuration(
    app: str | Callable[..., Any], settings: Settings, *, host: str, port: int, **limits: Any
) -> uvicorn.Config:
    """uvicorn's configuration for `app`; `limits` override those of `Limits`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(settings, **limits),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def allow_files() -> None:
    """Let the process open as many files as it may: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
