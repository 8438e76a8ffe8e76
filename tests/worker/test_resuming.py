"""Jobs that are broken off and go on: from their checkpoint, with a history as if nothing had happened."""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from core.contract.errors import InsufficientStorageError
from core.contract.jobs import Job
from core.store import events, jobs, timings
from core.store.leases import LostLeaseError
from tests.worker.conftest import ENGINE, Place
from worker import children
from worker.runner import JobRunner


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(children.PRELOAD, "jobs", ("worker.child", "worker.jobs_child"))
    monkeypatch.setattr(jobs, "RETRY_SECONDS", (0.0, 0.3, 0.6))
    children.warm("jobs")


def finish(place: Place, job_id: str, **settings: Any) -> Job:
    """Run in this process's care until the job is over."""
    runner = JobRunner(place.store, place.settings.model_copy(update=settings), lambda: False, ENGINE)
    deadline = time.monotonic() + 60
    while place.job(job_id).finished_at is None:
        assert time.monotonic() < deadline
        if not runner.run_next("me"):
            time.sleep(0.05)
    assert place.leftovers() == []
    return place.job(job_id)


def counted(place: Place, job_id: str) -> list[int]:
    """Which numbers the counting engine did, in all attempts."""
    return [int(word) for word in (place.settings.root / "cache" / f"{job_id}.txt").read_text().split()]


def losses(place: Place, job_id: str) -> list[object]:
    """The epochs of the curve."""
    return [data["epoch"] for kind, data in place.events(job_id) if kind == "metric" and "epoch" in data]


def blobs(place: Place) -> set[str]:
    """Names of all stored blobs."""
    return {path.name for path in place.store.blobs.root.glob("??/*")}


def starts(place: Place, job_id: str) -> list[dict[str, Any]]:
    """The events that say that a worker began."""
    return [data for kind, data in place.events(job_id) if data.get("state") == "running" and kind == "state"]


def test_a_killed_process_goes_on_from_its_checkpoint(place: Place) -> None:
    place.source  # noqa: B018
    before = blobs(place)
    job_id = place.submit("count", n=12, at=8, then="kill", every=3)
    job = finish(place, job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 1)
    assert counted(place, job_id) == [*range(1, 9), *range(7, 13)]  # saved at 6: 7 and 8 were done twice
    assert losses(place, job_id) == list(range(1, 13))  # but stand once in the curve
    assert [data for kind, data in place.events(job_id) if kind == "metric"].count({"accuracy": 0.75}) == 1
    assert starts(place, job_id) == [
        {"state": "running", "attempt": 1},
        {"state": "running", "attempt": 2, "resumed_from": {"epoch": 6, "step": 6}},
    ]
    saved = [data for kind, data in place.events(job_id) if kind == "checkpoint"]
    assert [data["epoch"] for data in saved] == [3, 6, 9, 12]
    assert all(set(data) == {"epoch", "step", "bytes"} for data in saved)
    assert len(blobs(place) - before) == 2  # bundle and report: no checkpoint is left


def test_a_lost_lease_keeps_checkpoints_out(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("count", n=3)
    with sqlite_place.store.db.write() as tx:
        claim = jobs.claim_next(tx, "lost", -1)
        assert claim is not None
        jobs.reconcile(tx, 3)
    with sqlite_place.store.db.write() as tx, pytest.raises(LostLeaseError):
        jobs.checkpoint(tx, claim.fence)
    assert finish(sqlite_place, job_id).state == "succeeded"


def test_a_poison_job_fails_after_three_losses_and_others_proceed(place: Place) -> None:
    poison, fine = place.submit("kill"), place.submit()
    assert finish(place, fine).state == "succeeded"
    job = finish(place, poison)
    assert (job.state, job.attempt, job.lost) == ("failed", 3, 3)
    assert job.error is not None
    assert job.error.code == "worker_killed"
    assert (job.error.details["exit_code"], job.error.details["lost"]) == (-signal.SIGKILL, 3)
    assert job.error.details["peak_bytes"] > 0


@pytest.mark.parametrize(("do", "code"), [("exit", 7), ("abort", -signal.SIGABRT)])
def test_every_death_without_a_word_is_tried_again(sqlite_place: Place, do: str, code: int) -> None:
    job = finish(sqlite_place, sqlite_place.submit(do), max_attempts=2)
    assert (job.attempt, job.lost) == (2, 2)
    assert job.error is not None
    assert (job.error.code, job.error.details["exit_code"]) == ("worker_killed", code)


def test_a_passing_fault_of_a_disk_is_tried_again_and_a_wrong_job_is_not(sqlite_place: Place) -> None:
    passing, wrong = sqlite_place.submit("passing"), sqlite_place.submit("refuse")
    job = finish(sqlite_place, passing)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 1)
    job = finish(sqlite_place, wrong)
    assert (job.state, job.attempt) == ("failed", 1)


def start_seconds(place: Place) -> float:
    """How long a job of nothing takes here and now, so that limits fit a busy machine, too."""
    began = time.monotonic()
    assert finish(place, place.submit()).state == "succeeded"
    return time.monotonic() - began


def test_the_budget_counts_all_attempts(sqlite_place: Place) -> None:
    seconds = math.ceil(3 + 3 * start_seconds(sqlite_place))
    n = 40 * seconds  # counting alone would take two budgets
    job_id = sqlite_place.submit("count", n=n, pause=0.05, at=20, then="kill", budget={"max_seconds": seconds})
    began = time.monotonic()
    job = finish(sqlite_place, job_id)
    assert (job.state, job.attempt) == ("failed", 2)
    assert job.error is not None
    assert job.error.code == "deadline"
    assert f"{seconds} s" in job.error.message
    assert time.monotonic() - began < 2 * seconds  # two whole budgets would be that and two starts
    assert 20 < max(counted(sqlite_place, job_id)) < n


def test_a_job_that_has_spent_its_budget_is_not_begun_again(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("count", n=1, budget={"max_seconds": 1})
    with sqlite_place.store.db.write() as tx:
        claim = jobs.claim_next(tx, "lost", 60)
        assert claim is not None
    time.sleep(1.1)
    with sqlite_place.store.db.write() as tx:
        assert jobs.hand_back(tx, claim.fence) == "queued"
    job = finish(sqlite_place, job_id)
    assert job.error is not None
    assert job.error.code == "deadline"
    assert not (sqlite_place.settings.root / "cache" / f"{job_id}.txt").exists()


@pytest.mark.parametrize("then", ["freeze", "hang"])
def test_a_child_without_a_sign_of_life_is_ended(sqlite_place: Place, then: str) -> None:
    job_id = sqlite_place.submit("count", n=5, at=3, then=then)
    job = finish(sqlite_place, job_id, stall_seconds=2.0)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error is not None
    assert job.error.code == "stalled"
    assert job.error.details["step"] == "train"
    assert 2.0 <= job.error.details["silent_seconds"] < 20
    assert job.error.hint


def test_a_working_child_is_not_taken_for_a_stalled_one(sqlite_place: Place) -> None:
    limit = 2 + 3 * start_seconds(sqlite_place)  # starting is silent
    job = finish(sqlite_place, sqlite_place.submit("work", seconds=1.5 * limit), stall_seconds=limit)
    assert job.state == "succeeded"


def test_a_wrong_checkpoint_is_not_believed(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("bad_checkpoint")
    job = finish(sqlite_place, job_id)
    assert job.state == "succeeded"
    found = sqlite_place.events(job_id)
    assert [data["epoch"] for kind, data in found if kind == "checkpoint"] == [1]
    told = [str(data["text"]) for kind, data in found if kind == "message" and "checkpoint" in str(data["text"])]
    assert len(told) == 3
    assert "work folder" in told[0]


def test_a_full_disk_costs_the_newer_checkpoint_only(sqlite_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt: Callable[..., None] = type(sqlite_place.store.blobs).adopt
    calls: list[str] = []

    def full(blobs: Any, path: Any, sha256: str) -> None:
        if path.name.startswith("state-"):
            calls.append(path.name)
            if len(calls) == 2:
                raise InsufficientStorageError("full")
        adopt(blobs, path, sha256)

    monkeypatch.setattr(type(sqlite_place.store.blobs), "adopt", full)
    job_id = sqlite_place.submit("count", n=3, pause=0.3)
    assert finish(sqlite_place, job_id).state == "succeeded"
    found = sqlite_place.events(job_id)
    assert [data["epoch"] for kind, data in found if kind == "checkpoint"] == [1, 3]
    assert any("disk is full" in str(data.get("text")) for kind, data in found if kind == "message")
    assert losses(sqlite_place, job_id) == [1, 2, 3]


def test_a_damaged_checkpoint_is_left_alone(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("count", n=6, at=4, then="kill")
    runner = JobRunner(sqlite_place.store, sqlite_place.settings, lambda: False, ENGINE)
    assert runner.run_next("me")
    with sqlite_place.store.db.read() as tx:
        sha256 = tx.exec_driver_sql("SELECT checkpoint_sha256 FROM jobs").scalar_one()
    path = sqlite_place.store.blob(sha256)
    path.write_bytes(b"x" * path.stat().st_size)
    assert finish(sqlite_place, job_id).state == "succeeded"
    assert counted(sqlite_place, job_id) == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert losses(sqlite_place, job_id) == [1, 2, 3, 4, 5, 6]
    assert not path.exists()


def test_a_checkpoint_that_is_gone_starts_the_job_anew(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("count", n=4, at=3, then="kill")
    runner = JobRunner(sqlite_place.store, sqlite_place.settings, lambda: False, ENGINE)
    assert runner.run_next("me")
    with sqlite_place.store.db.read() as tx:
        sha256 = tx.exec_driver_sql("SELECT checkpoint_sha256 FROM jobs").scalar_one()
    sqlite_place.store.blobs.remove(sha256)
    assert finish(sqlite_place, job_id).state == "succeeded"
    assert "resumed_from" not in starts(sqlite_place, job_id)[1]


def test_the_end_counts_the_steps_and_forgets_the_checkpoint(place: Place) -> None:
    finish(place, place.submit("count", n=2))
    with place.store.db.read() as tx:
        counted_steps = {(timing.step, timing.count) for timing in timings.all_of(tx)}
        row = tx.exec_driver_sql("SELECT checkpoint, checkpoint_sha256, running_since, spent FROM jobs").one()
    assert counted_steps == {("train", 1), ("store", 1)}
    assert row[:3] == (None, None, None)
    assert row[3] > 0


def test_two_attempts_write_one_history(place: Place) -> None:
    """Events of both attempts carry their number; the figures of the first are not repeated."""
    job_id = place.submit("count", n=6, at=5, then="kill", every=2)
    finish(place, job_id)
    with place.store.db.read() as tx:
        found = [event for event in events.after(tx, job_id, 0, 1000) if event.kind == "metric"]
    assert [(event.attempt, event.data.get("epoch")) for event in found] == [
        *((1, epoch) for epoch in range(1, 6)),
        (2, 6),
        (2, None),
    ]


def test_stats_tell_job_step_and_memory_and_nothing_when_idle(sqlite_place: Place) -> None:
    seen: list[dict[str, Any]] = []
    runner: JobRunner

    def look() -> bool:
        seen.extend(stats for stats in [runner.stats()] if stats is not None)
        return False

    job_id = sqlite_place.submit("count", n=30, pause=0.05)
    runner = JobRunner(sqlite_place.store, sqlite_place.settings, look, ENGINE)
    assert runner.stats() is None
    assert runner.run_next("me")
    assert runner.stats() is None
    best = [stats for stats in seen if stats["step"] == "train"][-1]
    assert best["job"] == job_id
    assert best["peak_bytes"] >= best["rss_bytes"] > 1 << 20
    assert best["gpu_allocated_bytes"] == 0


def test_a_child_that_does_not_suspend_is_ended_and_its_job_handed_back(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("count", n=9, at=5, then="hang")
    settings = sqlite_place.settings.model_copy(update={"shutdown_seconds": 1.0})

    def stopping() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return len(counted(sqlite_place, job_id)) == 5
        return False

    assert JobRunner(sqlite_place.store, settings, stopping, ENGINE).run_next("me")
    job = sqlite_place.job(job_id)
    assert (job.state, job.lost) == ("queued", 0)
    assert sqlite_place.leftovers() == []
    job = finish(sqlite_place, job_id)
    assert (job.state, job.attempt, job.lost) == ("succeeded", 2, 0)
    assert counted(sqlite_place, job_id) == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
