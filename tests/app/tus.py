"""Speaking tus 1.0 by hand."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from core.settings import Settings
from core.store.store import Store

MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


def b64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def said(**pairs: str) -> str:
    return ",".join(f"{key} {b64(value)}" for key, value in pairs.items())


def begin(client: Any, size: int, **headers: str) -> str:
    """Begin an upload and return its path."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = client.post("/uploads", headers={**TUS, "Upload-Length": str(size), **sent})
    assert reply.status_code == 201, reply.text
    assert reply.headers["Location"] == f"/uploads/{reply.json()['id']}"
    return str(reply.headers["Location"])


def patch(client: Any, path: str, start: int, data: Any, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch(path, content=data, headers={**CHUNK, "Upload-Offset": str(start), **sent})


def offset(client: Any, path: str) -> int:
    return int(client.head(path, headers=TUS).headers["Upload-Offset"])


def pending(store: Store) -> list[Path]:
    return list((store.blobs.root / "pending").iterdir())


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Api:
    """A real API process that can be killed and started again on the same port."""

    def __init__(self, settings: Settings) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = os.environ | {"GRAFT_DATA_DIR": str(settings.root), "GRAFT_PORT": str(self.port)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "graftd", "api"]
        self.process = subprocess.Popen(command, env=self._env, stdout=subprocess.DEVNULL, start_new_session=True)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None
