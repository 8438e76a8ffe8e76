"""Real worker processes: waking, stopping, losing them, losing the broker."""

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator

import psutil
import pytest
import redis
from sqlalchemy import text

from core.settings import Settings
from core.store import workers
from core.store.store import Store
from core.wakeup import TASKS
from migrations.run import upgrade
from tests.worker.conftest import Place
from worker import wakeups
from worker.garbage import Collector
from worker.wakeups import Waker, make_app

SHORT_JOBS = int(os.environ.get("GRAFT_TEST_SHORT_JOBS", "25"))


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
    assert min(waits) < 5


def test_trebled_wake_ups_and_two_workers_have_each_effect_once(braced: Place) -> None:
    braced.worker()
    braced.worker()
    ready(braced, 2)
    bell = waker(braced)
    ids = []
    for _ in range(SHORT_JOBS):
        ids.append(braced.submit("count", n=1))
        for _ in range(3):
            bell.wake("jobs")
    for job in braced.until_done(*ids, seconds=60 + 2 * SHORT_JOBS):
        assert (job.state, job.attempt) == ("succeeded", 1)
    for job_id in ids:
        assert (braced.settings.root / "cache" / f"{job_id}.txt").read_text() == "1\n"
        states = [data["state"] for kind, data in braced.events(job_id) if kind == "state"]
        assert states == ["queued", "running", "succeeded"]


def test_work_is_found_without_a_broker(sqlite_place: Place) -> None:
    """The broker's address leads nowhere; the worker polls."""
    job_id = sqlite_place.submit()
    worker = sqlite_place.worker()
    assert sqlite_place.until_done(job_id)[0].state == "succeeded"
    assert not waker(sqlite_place).wake("jobs")
    worker.terminate()
    assert worker.wait(30) == 0


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
    assert time.monotonic() - asked < 20  # it would have worked for a minute
    running.until_running(stopped)
    asked = running.request(stopped, cancel=False)
    job = running.until_done(stopped)[0]
    assert job.state == "succeeded"
    assert job.model_id
    assert time.monotonic() - asked < 20
    running.until_running(deaf)
    asked = running.request(deaf, cancel=True)
    assert running.until_done(deaf)[0].state == "cancelled"
    assert time.monotonic() - asked < 20  # soft, then by force after two seconds
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
    worker = sqlite_braced.worker(shutdown_seconds=60)
    job_id = sqlite_braced.submit("once")
    sqlite_braced.until(lambda: waker(sqlite_braced).wake("jobs"))
    sqlite_braced.until_running(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0  # at the engine's next step, not after `shutdown_seconds` and more
    assert sqlite_braced.job(job_id).state == "queued"
    assert "Traceback" not in sqlite_braced.log.read_text()
    with sqlite_braced.store.db.read() as tx:
        assert workers.alive(tx, 60) == []
    sqlite_braced.worker()
    (job,) = sqlite_braced.until_done(job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 0)


def counted(place: Place, job_id: str) -> list[int]:
    """Which numbers the counting engine did, in all attempts."""
    diary = place.settings.root / "cache" / f"{job_id}.txt"
    return [int(word) for word in diary.read_text().split()] if diary.exists() else []


def test_sigterm_loses_no_step_and_a_second_one_does_not_cut_it_short(sqlite_braced: Place) -> None:
    worker = sqlite_braced.worker()
    job_id = sqlite_braced.submit("count", n=40, pause=0.1)
    sqlite_braced.until(lambda: len(counted(sqlite_braced, job_id)) > 5)
    worker.terminate()
    worker.terminate()
    assert worker.wait(60) == 0
    job = sqlite_braced.job(job_id)
    assert (job.state, job.lost) == ("queued", 0)
    assert sqlite_braced.leftovers() == []
    sqlite_braced.worker()
    (job,) = sqlite_braced.until_done(job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 0)
    assert counted(sqlite_braced, job_id) == list(range(1, 41))
    begun = [data for kind, data in sqlite_braced.events(job_id) if kind == "state" and data["state"] == "running"]
    assert "resumed_from" in begun[1]


def test_a_killed_worker_costs_no_more_than_the_steps_since_the_checkpoint(sqlite_braced: Place) -> None:
    worker = sqlite_braced.worker()
    job_id = sqlite_braced.submit("count", n=40, pause=0.1)
    sqlite_braced.until(lambda: len(counted(sqlite_braced, job_id)) > 10)
    worker.kill()
    worker.wait()
    sqlite_braced.worker()
    (job,) = sqlite_braced.until_done(job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 1)
    done = counted(sqlite_braced, job_id)
    assert set(done) == set(range(1, 41))
    assert len(done) <= 40 + 5
    epochs = [data["epoch"] for kind, data in sqlite_braced.events(job_id) if kind == "metric" and "epoch" in data]
    assert epochs == list(range(1, 41))
    # A worker killed between a checkpoint and its row, or before the old one was removed, leaves that to the collector.
    assert len(list(sqlite_braced.store.blobs.root.glob("??/*"))) <= 4 + 2
    Collector(sqlite_braced.store, sqlite_braced.settings.model_copy(update={"garbage_seconds": 0})).sweep()
    assert len(list(sqlite_braced.store.blobs.root.glob("??/*"))) == 4  # content, manifest, bundle, report
    assert sqlite_braced.leftovers() == []


def test_a_worker_killed_by_force_leaves_no_temporary_folder_for_long(
    sqlite_place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("t")
    strange = temporary / "pymp-of-another-program"
    strange.mkdir()
    first = sqlite_place.worker(environment={"TMPDIR": str(temporary)})
    ready(sqlite_place)
    (own,) = [folder for folder in temporary.glob("pymp-*") if folder != strange]
    first.kill()
    first.wait()
    assert own.exists()
    sqlite_place.worker(environment={"TMPDIR": str(temporary)})
    sqlite_place.until(lambda: not own.exists())
    assert strange.exists()


def test_a_worker_waits_for_its_database(sqlite_place: Place) -> None:
    database = sqlite_place.settings.root / "graft.db"
    job_id = sqlite_place.submit()
    for path in database.parent.glob("graft.db*"):
        path.rename(path.with_name("away-" + path.name))
    database.mkdir()  # nothing can be opened there
    worker = sqlite_place.worker()
    sqlite_place.until(lambda: "not ready for work yet" in sqlite_place.log.read_text())
    assert worker.poll() is None
    database.rmdir()
    for path in database.parent.glob("away-graft.db*"):
        path.rename(path.with_name(path.name.removeprefix("away-")))
    assert sqlite_place.until_done(job_id)[0].state == "succeeded"


def test_a_worker_claims_nothing_before_the_tables_are_those_it_knows(sqlite_place: Place) -> None:
    place = sqlite_place
    job_id = place.submit()
    version = text("UPDATE alembic_version SET version_num = :revision")
    with place.store.db.write() as tx:
        newest = tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        tx.execute(version, {"revision": "0001"})
    place.worker()
    place.until(lambda: place.log.exists() and place.log.read_text().count("graftd migrate") > 1)
    assert place.job(job_id).state == "queued"
    with place.store.db.write() as tx:
        tx.execute(version, {"revision": newest})
    assert place.until_done(job_id)[0].state == "succeeded"


def test_a_lease_does_not_run_out_while_the_libraries_load(sqlite_place: Place) -> None:
    place = sqlite_place
    job_id = place.submit()
    place.worker(program="tests.worker.heavy", lease_seconds=1.5)
    done = place.until_done(job_id)[0]
    assert (done.state, done.attempt, done.lost) == ("succeeded", 1, 0)


def test_every_log_line_of_a_run_carries_the_job_and_its_request(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("fault", request_id="req_test")
    sqlite_place.worker(environment={"GRAFT_LOG": "json"})
    sqlite_place.until_done(job_id)
    sqlite_place.until(lambda: "job failed" in sqlite_place.log.read_text())
    lines = [json.loads(line) for line in sqlite_place.log.read_text().splitlines()]
    about = [line for line in lines if line.get("job") == job_id]
    assert {line["program"] for line in about} == {"worker-jobs", "job"}
    assert {line["request_id"] for line in about} == {"req_test"}


def test_the_worker_tells_what_it_works_at(sqlite_place: Place) -> None:
    sqlite_place.worker()
    ready(sqlite_place)

    def stats() -> dict[str, object] | None:
        with sqlite_place.store.db.read() as tx:
            return workers.alive(tx, 60)[0].stats

    assert stats() is None
    job_id = sqlite_place.submit("work", seconds=60)
    sqlite_place.until(lambda: (stats() or {}).get("step") == "train")
    assert (stats() or {})["job"] == job_id
    sqlite_place.until(lambda: int(str((stats() or {}).get("peak_bytes", 0))) > 0)
    sqlite_place.request(job_id, cancel=True)
    sqlite_place.until_done(job_id)
    sqlite_place.until(lambda: stats() is None)


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
