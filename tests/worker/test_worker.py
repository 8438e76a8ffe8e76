"""Real worker processes: waking, stopping, losing them, losing the broker."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Iterator

import psutil
import pytest
import redis

from core.settings import Settings
from core.store import workers
from core.store.store import Store
from core.wakeup import TASKS
from migrations.run import upgrade
from tests.worker.conftest import Place
from worker import wakeups
from worker.wakeups import Waker, make_app


def waker(place: Place) -> Waker:
    """What the API does after it has committed a job."""
    return Waker(make_app(place.settings.resolved_broker_url))


@pytest.fixture
def braced(place: Place, valkey_url: str) -> Place:
    """A place with a broker."""
    place.settings = place.settings.model_copy(update={"broker_url": valkey_url})
    return place


@pytest.fixture
def sqlite_braced(sqlite_place: Place, valkey_url: str) -> Place:
    """A place on SQLite with a broker."""
    sqlite_place.settings = sqlite_place.settings.model_copy(update={"broker_url": valkey_url})
    return sqlite_place


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, valkey_server: str) -> Iterator[Place]:
    """A place on SQLite with a broker and one worker, which several tests share."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), broker_url=valkey_server)
    store = Store.open(settings)
    upgrade(store.db)
    place = Place(store, settings)
    place.worker(sweep_seconds=60)
    ready(place)
    yield place
    place.end()
    store.close()


def ready(place: Place, count: int = 1) -> None:
    """Wait until the workers say that they are alive."""

    def alive() -> bool:
        with place.store.db.read() as tx:
            return len(workers.alive(tx, 5)) == count

    place.until(alive, 60)


def test_a_wake_up_starts_a_job_at_once(running: Place) -> None:
    """The worker looks by itself once a minute only, so it is the message that starts the job."""
    bell = waker(running)
    first = running.submit()
    running.until(lambda: bell.wake("jobs"))
    running.until_done(first)
    waits = []
    for _ in range(3):
        job_id = running.submit()
        bell.wake("jobs")
        (job,) = running.until_done(job_id)
        assert job.state == "succeeded"
        assert job.started_at is not None
        waits.append((job.started_at - job.created_at).total_seconds())
    assert min(waits) < 0.5


def test_doubled_wake_ups_and_two_workers_run_each_job_once(braced: Place) -> None:
    braced.worker()
    braced.worker()
    ready(braced, 2)
    bell = waker(braced)
    ids = []
    for _ in range(6):
        ids.append(braced.submit("once_only"))
        for _ in range(3):
            bell.wake("jobs")
    for job in braced.until_done(*ids):
        assert (job.state, job.attempt) == ("succeeded", 1)
    for job_id in ids:
        states = [data["state"] for kind, data in braced.events(job_id) if kind == "state"]
        assert states == ["queued", "running", "succeeded"]


def test_work_is_found_without_a_broker(sqlite_place: Place) -> None:
    """The broker's address leads nowhere; the worker polls."""
    job_id = sqlite_place.submit()
    worker = sqlite_place.worker()
    assert sqlite_place.until_done(job_id)[0].state == "succeeded"
    assert not waker(sqlite_place).wake("jobs")
    worker.terminate()
    assert worker.wait(5) == 0


def test_a_wiped_broker_loses_nothing(sqlite_braced: Place, valkey_url: str) -> None:
    ids = [sqlite_braced.submit() for _ in range(3)]
    bell = waker(sqlite_braced)
    bell.wake("jobs")
    client = redis.Redis(unix_socket_path=valkey_url.removeprefix("redis+socket://"))
    client.flushall()
    sqlite_braced.worker()
    ids += [sqlite_braced.submit() for _ in range(3)]
    client.flushall()
    assert [job.state for job in sqlite_braced.until_done(*ids)] == ["succeeded"] * 6
    client.close()


def test_cancel_and_stop_act_at_once(running: Place) -> None:
    cancelled, stopped, deaf = (
        running.submit("work", seconds=60),
        running.submit("work", seconds=60),
        running.submit("deaf"),
    )
    waker(running).wake("jobs")
    running.until_running(cancelled)
    asked = running.request(cancelled, cancel=True)
    assert running.until_done(cancelled)[0].state == "cancelled"
    assert time.monotonic() - asked < 3
    running.until_running(stopped)
    asked = running.request(stopped, cancel=False)
    job = running.until_done(stopped)[0]
    assert job.state == "succeeded"
    assert job.model_id
    assert time.monotonic() - asked < 3
    running.until_running(deaf)
    asked = running.request(deaf, cancel=True)
    assert running.until_done(deaf)[0].state == "cancelled"
    assert time.monotonic() - asked < 6  # soft, then by force after two seconds; room for a busy machine
    assert running.leftovers() == []


def test_a_killed_worker_takes_its_children_along_and_another_takes_over(braced: Place) -> None:
    lost = braced.worker()
    job_id = braced.submit("once")
    braced.until_running(job_id)
    family = psutil.Process(lost.pid).children(recursive=True)
    assert len(family) >= 2  # the fork server and the job
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    _, alive = psutil.wait_procs(family, 3)
    assert alive == []
    braced.worker()
    (job,) = braced.until_done(job_id)
    assert (job.state, job.attempt) == ("succeeded", 2)
    states = [data["state"] for kind, data in braced.events(job_id) if kind == "state"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert braced.leftovers() == []


def job_process(worker: int) -> psutil.Process:
    """The one job that a worker process runs now."""
    (child,) = [child for server in psutil.Process(worker).children() for child in server.children()]
    return child


def test_a_killed_child_costs_its_job_an_attempt_and_nobody_else_anything(running: Place) -> None:
    doomed, next_one = running.submit("once"), running.submit()
    waker(running).wake("jobs")
    running.until_running(doomed)
    job_process(running.processes[0].pid).kill()
    again, fine = running.until_done(doomed, next_one)
    assert [(job.state, job.attempt, job.lost) for job in (again, fine)] == [("succeeded", 2, 1), ("succeeded", 1, 0)]
    texts = [str(data["text"]) for kind, data in running.events(doomed) if kind == "message"]
    assert any("SIGKILL" in text and "loss 1 of at most 3" in text for text in texts)


def test_a_frozen_worker_cannot_write_any_more(sqlite_braced: Place) -> None:
    frozen = sqlite_braced.worker()
    job_id = sqlite_braced.submit("work", seconds=3)
    sqlite_braced.until_running(job_id)
    freeze(sqlite_braced, frozen.pid)
    sqlite_braced.worker()
    sqlite_braced.until(lambda: sqlite_braced.job(job_id).attempt == 2)
    os.kill(frozen.pid, signal.SIGCONT)
    (job,) = sqlite_braced.until_done(job_id)
    assert (job.state, job.attempt) == ("succeeded", 2)
    states = [data["state"] for kind, data in sqlite_braced.events(job_id) if kind == "state"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert len(list((sqlite_braced.settings.root / "blobs").glob("??/*"))) == 4  # content, manifest, bundle, report


def freeze(place: Place, pid: int) -> None:
    """Stop a process, but not in the middle of a write: on SQLite nobody else could write then."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(place.store.db.url.database or "", timeout=0.3)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                continue
            connection.execute("ROLLBACK")
            return


def test_sigterm_hands_the_job_back(sqlite_braced: Place) -> None:
    worker = sqlite_braced.worker()
    job_id = sqlite_braced.submit("once")
    sqlite_braced.until(lambda: waker(sqlite_braced).wake("jobs"))
    sqlite_braced.until_running(job_id)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(12) == 0
    assert time.monotonic() - began < 8  # at the engine's next step, not after `shutdown_seconds` and more
    assert sqlite_braced.job(job_id).state == "queued"
    assert "Traceback" not in sqlite_braced.log.read_text()
    with sqlite_braced.store.db.read() as tx:
        assert workers.alive(tx, 60) == []
    sqlite_braced.worker()
    (job,) = sqlite_braced.until_done(job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 0)


def test_a_poison_job_gives_up_after_its_attempts(sqlite_braced: Place) -> None:
    """A job that takes the whole worker down each time."""
    job_id = sqlite_braced.submit("work", seconds=60)
    for _ in range(2):
        worker = sqlite_braced.worker(lease_seconds=0.6, max_attempts=2)
        attempt = sqlite_braced.job(job_id).attempt
        sqlite_braced.until(lambda attempt=attempt: sqlite_braced.job(job_id).attempt > attempt)
        worker.kill()
        worker.wait()
    sqlite_braced.worker(max_attempts=2)
    (job,) = sqlite_braced.until_done(job_id)
    assert job.error is not None
    assert job.error.code == "worker_lost"


def test_names_of_wake_ups_are_those_of_the_tasks() -> None:
    assert TASKS == {"jobs": "graft.wake_jobs", "ingest": "graft.wake_ingest"}
    assert wakeups.make_app("memory://").conf.task_ignore_result
