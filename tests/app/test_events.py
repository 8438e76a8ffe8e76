"""A job's events: pages, and the stream with its promises."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient

from app.jobs.stream import KEEP_ALIVE_SECONDS, stream
from app.jobs.tailer import REMEMBERED, Tailer
from core.settings import Settings
from core.store import events, jobs
from core.store.events import NewEvent
from core.store.leases import Fence
from core.store.store import Store
from tests.app.seed import TENANT, add_dataset, add_job, start_job

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def fence(store: Store) -> Fence:
    """A running job with two events: queued, running."""
    add_job(store, add_dataset(store))
    return start_job(store)


def tell(store: Store, fence: Fence, *texts: str) -> None:
    with store.db.write() as tx:
        jobs.record(tx, fence, [NewEvent("message", {"text": text}) for text in texts])


def finish(store: Store, fence: Fence) -> None:
    with store.db.write() as tx:
        jobs.transition(tx, fence.id, "failed", fence=fence)


def parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Events of a stream as a browser would see them, with the time each arrived at."""
    found: dict[str, Any] = {}
    for line in lines:
        if not line and "data" in found:
            yield {**found, "data": json.loads(found["data"]), "arrived": time.time()}
        if not line:
            found = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


def test_pages(client: TestClient, store: Store, fence: Fence) -> None:
    tell(store, fence, *"abc")
    url = f"/jobs/{fence.id}/events"
    first = client.get(url, params={"limit": 3}).json()
    assert [event["seq"] for event in first["data"]] == [1, 2, 3]
    assert (first["has_more"], first["next_cursor"]) == (True, "3")
    rest = client.get(url, params={"after": 3}).json()
    assert [event["data"] for event in rest["data"]] == [{"text": "b"}, {"text": "c"}]
    assert (rest["has_more"], rest["next_cursor"]) == (False, "5")
    assert client.get(url, params={"cursor": "5"}).json() == {"data": [], "has_more": False, "next_cursor": "5"}


def test_a_stream_brings_every_event_soon_and_ends(server: str, store: Store, fence: Fence) -> None:
    with httpx2.stream("GET", f"{server}/jobs/{fence.id}/events", headers=SSE, timeout=20) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-cache"
        lines = parse(reply.iter_lines())
        seen = [next(lines), next(lines)]
        for number in range(20):  # each has to come before there is another
            tell(store, fence, str(number))
            seen.append(next(lines))
        finish(store, fence)
        seen += lines
    *told, end = seen
    assert [int(event["id"]) for event in told] == list(range(1, 24))
    assert [event["event"] for event in told] == ["state", "state", *["message"] * 20, "state"]
    assert (end["event"], end["data"]["state"]) == ("end", "failed")
    with store.db.read() as tx:
        stored = events.after(tx, fence.id, 0)
    assert [event["data"] for event in told] == [event.model_dump(mode="json") for event in stored]
    delays = [event["arrived"] - row.at.timestamp() for event, row in zip(told, stored, strict=True)][2:]
    assert max(delays) < KEEP_ALIVE_SECONDS / 2
    assert sorted(delays)[len(delays) // 2] < 1.0  # the table is looked at several times a second


def test_a_stream_is_resumed_without_gap_or_repetition(server: str, store: Store, fence: Fence) -> None:
    tell(store, fence, *"abcdefgh")
    url, seen, last = f"{server}/jobs/{fence.id}/events", [], None
    for _ in range(3):
        headers = SSE | ({"Last-Event-ID": last} if last else {})
        with httpx2.stream("GET", url, headers=headers, timeout=20) as reply:
            lines = parse(reply.iter_lines())
            for _ in range(3):
                seen.append(next(lines)["id"])
            last = seen[-1]
    finish(store, fence)
    with httpx2.stream("GET", url, params={"after": last}, headers=SSE, timeout=20) as reply:
        rest = list(parse(reply.iter_lines()))
    assert [*seen, *(event["id"] for event in rest[:-1])] == [str(number) for number in range(1, 12)]
    assert rest[-1]["event"] == "end"
    with httpx2.stream("GET", url, headers=SSE | {"Last-Event-ID": "11"}, timeout=20) as reply:
        assert [event["event"] for event in parse(reply.iter_lines())] == ["end"]


def test_more_events_than_are_remembered_come_without_gap(server: str, store: Store, fence: Fence) -> None:
    with httpx2.stream("GET", f"{server}/jobs/{fence.id}/events", headers=SSE, timeout=20) as reply:
        lines = parse(reply.iter_lines())
        seen = [next(lines)["id"], next(lines)["id"]]
        tell(store, fence, "one")
        seen.append(next(lines)["id"])
        tell(store, fence, *(str(number) for number in range(3 * REMEMBERED)))
        tell(store, fence, "last")
        finish(store, fence)
        seen += [event["id"] for event in lines if event["event"] != "end"]
    assert seen == [str(number) for number in range(1, 3 * REMEMBERED + 6)]


def test_watchers_that_vanish_or_sleep_leak_nothing(server: str, store: Store, fence: Fence) -> None:
    host, port = server.removeprefix("http://").split(":")
    request = f"GET /jobs/{fence.id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
    sockets = []
    for _ in range(100):
        sockets.append(socket.create_connection((host, int(port))))
        sockets[-1].sendall(request)
    wait_for(server, 100)
    before = psutil.Process().memory_info().rss
    for number in range(20):  # nobody reads
        tell(store, fence, *(f"{number} {'x' * 1000}" for _ in range(50)))
    assert httpx2.get(f"{server}/healthz", timeout=60).status_code == 200
    for one in sockets:
        one.close()
    wait_for(server, 0)
    assert psutil.Process().memory_info().rss - before < 60_000_000


def wait_for(server: str, streams: int) -> None:
    """Until the service says that so many streams are open."""
    deadline = time.monotonic() + 60
    while f"graft_event_streams {streams}.0" not in httpx2.get(f"{server}/metrics", timeout=60).text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_silent_stream_is_kept_alive(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.stream.KEEP_ALIVE_SECONDS", 0.1)
    add_job(sqlite_store, add_dataset(sqlite_store))
    job = start_job(sqlite_store).id

    async def listen() -> list[bytes]:
        tailer = Tailer(sqlite_store)
        tailer.start()
        chunks: list[bytes] = []
        async for chunk in stream(sqlite_store, tailer, TENANT, job, seq=0):
            chunks.append(chunk)
            if chunks.count(b": keep-alive\n\n") == 2:
                tailer.hang_up()
        await tailer.close()
        assert tailer.watched == 0
        return chunks

    chunks = asyncio.run(listen())
    assert chunks[0].startswith(b": connected")
    assert b"event: end" not in b"".join(chunks)


def test_the_process_ends_at_once_though_streams_are_open(sqlite_store: Store, settings: Settings) -> None:
    add_job(sqlite_store, add_dataset(sqlite_store))
    job = start_job(sqlite_store).id
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--log-level", "warning"]
    environment = os.environ | {"GRAFT_DATA_DIR": str(settings.root)}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _until_up(url)
        with httpx2.stream("GET", f"{url}/jobs/{job}/events", headers=SSE, timeout=20) as reply:
            lines = parse(reply.iter_lines())
            assert next(lines)["id"] == "1"
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert [event["event"] for event in lines] == ["state"]
        process.wait(20)
        assert time.monotonic() - began < 10  # a stream that nobody ends goes on for ever
    finally:
        process.kill()
        process.wait()


def _until_up(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx2.get(f"{url}/healthz")
            return
        except httpx2.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
