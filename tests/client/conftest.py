"""Things that the service would answer, and a client that does not sleep."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graft import Graft

NOW = "2025-01-01T00:00:00Z"
JOB = "job_00000000000000000000000001"
DATASET = "ds_00000000000000000000000001"
MODEL = "mdl_00000000000000000000000001"


def dataset(state: str = "ready", **more: Any) -> dict[str, Any]:
    """A data set as JSON."""
    return {"id": DATASET, "name": "flowers", "state": state, "bytes": 3, "sha256": "0" * 64, "created_at": NOW} | more


def job(state: str = "succeeded", **more: Any) -> dict[str, Any]:
    """A job as JSON."""
    body = {"id": JOB, "state": state, "method": {"name": "linear_probe", "solver": "ridge"}, "base_model": "tiny"}
    return body | {"source": DATASET, "created_at": NOW} | more


def event(seq: int, kind: str = "message", **data: Any) -> dict[str, Any]:
    """An event as JSON."""
    return {"seq": seq, "job_id": JOB, "attempt": 1, "at": NOW, "kind": kind, "data": data}


def error(code: str, type_: str = "invalid_request", **more: Any) -> dict[str, Any]:
    """An error reply as JSON."""
    return {"error": {"type": type_, "code": code, "message": f"About {code}.", "details": {}} | more}


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, noted instead of slept."""
    return []


@pytest.fixture
def connect(naps: list[float]) -> Iterator[Callable[[str], Graft]]:
    """Make clients that note their naps instead of sleeping."""
    made: list[Graft] = []

    def make(url: str, **options: Any) -> Graft:
        client = Graft(url, **options)
        retries = client._transport.retries
        object.__setattr__(retries, "sleep", naps.append)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
