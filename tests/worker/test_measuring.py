"""A measurement by a real child, a job whose cost is told beforehand and compared with what it came to, a refusal."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from core.contract.jobs import Job, JobSpec
from core.forecasting import Forecast, forecast
from core.store import jobs, measurements, profiles, tables, workers
from tests.app.seed import add_dataset
from tests.engine.jobs import TINY, tiny_state
from tests.worker.conftest import TENANT, Place
from worker import children
from worker.child import Link
from worker.engine.measuring import Pace, typical
from worker.measuring import Measurer
from worker.runner import JobRunner

TUNE = {"name": "fine_tune", "epochs": 2, "batch_size": 4, "augmentation": "none", "early_stop": None, "ema": None}


@pytest.fixture(autouse=True)
def _warm() -> None:
    children.warm("jobs")


@pytest.fixture
def spec(sqlite_place: Place, tmp_path: Path) -> JobSpec:
    """A short training on images, in a place that has the weights for it."""
    save_file(tiny_state(), tmp_path / "test_resnet.safetensors")
    sqlite_place.settings = sqlite_place.settings.model_copy(update={"weights_dir": tmp_path, "threads": 1})
    source = add_dataset(sqlite_place.store, per_class=8)
    return JobSpec.model_validate({"method": TUNE, "base_model": TINY, "source": source, "baselines": "none"})


def measured(place: Place, spec: JobSpec, **values: Any) -> measurements.Measurement:
    with place.store.db.write() as tx:
        asked = measurements.ask(tx, TENANT, spec)
    assert Measurer(place.store, place.settings, lambda: False, **values).run_next("me")
    with place.store.db.read() as tx:
        found = measurements.get(tx, asked)
    assert found is not None
    return found


def look(place: Place, spec: JobSpec) -> Forecast:
    with place.store.db.write() as tx:
        workers.beat(tx, "w", "jobs", host=os.uname().nodename, pid=1)
    with place.store.db.read() as tx:
        return forecast(tx, place.settings, TENANT, spec)


def ran(place: Place, spec: JobSpec, job_id: str) -> Job:
    with place.store.db.write() as tx:
        jobs.add(tx, TENANT, job_id, spec)
    assert JobRunner(place.store, place.settings, lambda: False, "worker.engine:run").run_next("me")
    return place.job(job_id)


def test_a_measurement_says_what_a_job_then_takes(sqlite_place: Place, spec: JobSpec) -> None:
    place = sqlite_place
    before = look(place, spec)
    assert (before.lacks, before.estimate.basis, before.device.name) == (True, "assumed", "unknown")
    assert measured(place, spec).state == "done"
    after = look(place, spec)
    assert (after.lacks, after.estimate.basis) == (False, "measured")
    assert after.device.name.startswith("cpu: ")
    assert after.device.memory_bytes
    assert after.work.graph_cached
    assert after.estimate.seconds.high / after.estimate.seconds.low < 60  # beside other tests steps take unequally long
    assert place.leftovers() == []
    job = ran(place, spec, "job_" + "0" * 26)
    assert job.error is None
    found = job.estimate
    assert found is not None
    memory = found.memory_bytes
    assert memory.actual
    assert abs(memory.actual / memory.expected - 1) < 0.25
    assert found.seconds.actual
    assert found.disk_bytes.actual
    again = look(place, spec)
    assert again.work.parts[0].cached
    assert again.estimate.basis == "history"
    assert again.rates.values("ratio.memory", variant="fine_tune|measured")


def test_what_cannot_fit_is_refused_with_what_would_fit(sqlite_place: Place, spec: JobSpec) -> None:
    place = sqlite_place
    assert measured(place, spec).state == "done"
    found = look(place, spec)
    held = found.estimate.memory_bytes.expected
    with place.store.db.write() as tx:
        device = profiles.devices(tx)[0]
        small = dict(device.facts) | {"memory_bytes": int(held * 0.9)}
        tx.execute(tables.profiles.update().where(tables.profiles.c.kind == "device").values(facts=small))
    tight = look(place, spec)
    assert not tight.estimate.fits
    refusal = tight.refusal()
    assert refusal is not None
    assert refusal.code == "does_not_fit"
    assert refusal.details["limit_bytes"] < refusal.details["memory_bytes"]["expected"]
    assert look(place, spec.model_copy(update={"base_model": TINY})).refusal() is not None


def die(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that is lost."""
    os._exit(1)


def sleep(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that takes its time."""
    time.sleep(120)
    return {}


def test_a_child_that_is_lost_fails_the_measurement_alone(sqlite_place: Place, spec: JobSpec) -> None:
    found = measured(sqlite_place, spec, work=die)
    assert found.state == "failed"
    assert found.error is not None
    assert look(sqlite_place, spec).estimate.basis == "assumed"


def test_a_worker_that_ends_hands_its_measurement_back(sqlite_place: Place, spec: JobSpec) -> None:
    place = sqlite_place
    with place.store.db.write() as tx:
        measurements.ask(tx, TENANT, spec)
    assert Measurer(place.store, place.settings, lambda: True, sleep).run_next("me")
    with place.store.db.write() as tx:
        claim = measurements.claim_next(tx, "another", 10)
    assert claim is not None
    assert (claim.fence.attempt, claim.lost) == (2, 0)


def test_what_is_timed_is_as_large_as_the_rest() -> None:
    sizes = [10] * 90 + [1000] * 10  # as a data set in the order of its upload may be
    chosen = typical(sizes, 10)
    assert sorted(set(chosen)) == list(chosen)
    assert sum(sizes[index] for index in chosen) == sum(sizes) // 10
    assert list(typical(sizes, 100)) == list(range(100))
    assert len(typical([], 0)) == 0


def test_a_larger_batch_is_tried_where_there_is_time_and_memory_for_it() -> None:
    pace = Pace(size=8, each=0.1, held=10**9)
    assert pace.largest([16, 32], seconds=10, free=10**10) == 32, "two steps of 32 take 6.4 s"
    assert pace.largest([16, 32], seconds=4, free=10**10) == 16
    assert pace.largest([16, 32], seconds=10, free=2 * 10**9) == 16, "32 would hold three times as much again"
    assert pace.largest([16, 32], seconds=1, free=10**10) == 0
    assert pace.largest([16, 32], seconds=10, free=10**9) == 0


def test_steps_are_repeated_as_long_as_there_is_time_and_one_is_always_counted() -> None:
    pace = Pace(size=8, each=0.1, held=0)
    assert pace.affordable(32, seconds=100) == 4
    assert pace.affordable(32, seconds=10) == 3
    assert pace.affordable(32, seconds=0.1) == 2, "the first warms up"
    assert pace.affordable(4, seconds=2.5) == 3, "two steps of a small batch make an epoch"
