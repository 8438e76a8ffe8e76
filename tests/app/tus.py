"""Speaking tus 1.0 by hand."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
