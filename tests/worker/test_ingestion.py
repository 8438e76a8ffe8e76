"""One upload, one child process: ready or rejected, and what is left behind."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.contract.base import new_id, now
from core.contract.datasets import Dataset, DatasetManifest, Reading
from core.store import datasets
from tests.builders import folder_zip
from tests.worker.conftest import TENANT, Place
from worker import children
from worker.child import Link
from worker.ingestion import Ingester


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(children.PRELOAD, "jobs", ("worker.child", "worker.ingestion_child", "core.modality.ingest"))
    children.warm("jobs")


def upload(place: Place, data: bytes, seed: int = 0, reading: Reading | None = None) -> str:
    """What the API does with an upload."""
    with place.store.db.write(blobs=True) as tx:
        sha256 = place.store.blobs.put(data)
        dataset = Dataset(
            id=new_id("ds"),
            name="x",
            state="validating",
            reading=reading or Reading(),
            bytes=len(data),
            sha256=sha256,
            created_at=now(),
        )
        datasets.add(tx, TENANT, dataset, seed=seed)
    return dataset.id


def die(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that is lost."""
    os._exit(1)


def never(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that must not be started."""
    raise AssertionError


def slow(link: Link, *_args: Any) -> dict[str, Any]:
    """A child that works on and on."""
    while True:
        link.alive()
        time.sleep(0.05)


def hang(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child without a sign of life."""
    time.sleep(60)
    return {}


def blobs(place: Place) -> set[str]:
    """Names of all stored blobs."""
    return {path.name for path in place.store.blobs.root.glob("??/*")}


def test_ready_and_the_same_bytes_again(place: Place) -> None:
    data = folder_zip({"cat": 6, "dog": 6})
    first = upload(place, data)
    ingester = Ingester(place.store, place.settings, lambda: False)
    assert ingester.run_next("me")
    dataset = place.dataset(first)
    assert (dataset.state, dataset.items, dataset.classes) == ("ready", 12, ["cat", "dog"])
    with place.store.db.read() as tx:
        named = datasets.blobs(tx, TENANT, first)
    assert named is not None
    manifest = DatasetManifest.model_validate_json(place.store.blob(named.manifest_sha256).read_bytes())
    item = manifest.items[0]
    content = place.store.blob(named.content_sha256).read_bytes()
    assert len(content[item.offset : item.offset + item.length]) == item.length > 0
    kept = blobs(place)

    second, other_seed = upload(place, data), upload(place, data, seed=1)
    assert Ingester(place.store, place.settings, lambda: False, never).run_next("me")
    again = place.dataset(second)
    assert (again.state, again.items, again.splits) == ("ready", 12, dataset.splits)
    assert blobs(place) == kept
    assert ingester.run_next("me")
    assert place.dataset(other_seed).state == "ready"
    assert place.leftovers() == []


def test_a_table_is_read_as_it_was_said(place: Place) -> None:
    data = ("size,sort,note\n" + "".join(f"{n * 1.5},{n % 3},{n * 7 % 5}\n" for n in range(60))).encode()
    readings = [Reading(), Reading(target="sort"), Reading(target="size", modality="tabular")]
    made = [upload(place, data, reading=reading) for reading in readings]
    ingester = Ingester(place.store, place.settings, lambda: False)
    for _ in made:
        assert ingester.run_next("me")
    found = [place.dataset(one) for one in made]
    assert [(one.state, one.modality, one.problem) for one in found] == [
        ("ready", "tabular", "classification"),
        ("ready", "tabular", "classification"),
        ("ready", "tabular", "regression"),
    ]
    assert [len(one.classes) for one in found] == [5, 3, 0]
    upload(place, data, reading=readings[2])
    assert Ingester(place.store, place.settings, lambda: False, never).run_next("me")
    assert place.leftovers() == []


def test_a_rejected_upload_leaves_its_report_but_no_blob(place: Place) -> None:
    first = upload(place, b"this is no archive")
    assert Ingester(place.store, place.settings, lambda: False).run_next("me")
    dataset = place.dataset(first)
    assert dataset.state == "rejected"
    assert dataset.error is not None
    assert dataset.error.hint
    with place.store.db.read() as tx:
        report = datasets.report(tx, TENANT, first)
    assert report is not None
    assert report.faults
    assert blobs(place) == set()
    assert place.leftovers() == []


def test_the_work_folder_is_gone_before_a_rejection_is_written(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it is the upload's own unpacked files that keep the database from growing."""
    seen: list[list[str]] = []
    before = datasets.mark_rejected

    def mark_rejected(*arguments: Any) -> None:
        seen.append(sqlite_place.leftovers())
        before(*arguments)

    upload(sqlite_place, b"this is no archive")
    monkeypatch.setattr(datasets, "mark_rejected", mark_rejected)
    assert Ingester(sqlite_place.store, sqlite_place.settings, lambda: False).run_next("me")
    assert seen == [[]]


def test_the_upload_stays_while_another_data_set_needs_it(sqlite_place: Place) -> None:
    place = sqlite_place
    doomed = upload(place, b"this is no archive")
    waiting = upload(place, b"this is no archive")
    ingester = Ingester(place.store, place.settings, lambda: False)
    assert ingester.run_next("me")
    assert place.dataset(doomed).state == "rejected"
    assert len(blobs(place)) == 1
    assert ingester.run_next("me")
    assert place.dataset(waiting).state == "rejected"
    assert blobs(place) == set()


def test_a_crash_is_tried_again_and_rejects_with_a_reason_in_the_end(sqlite_place: Place) -> None:
    place, first = sqlite_place, upload(sqlite_place, b"anything")
    ingester = Ingester(place.store, place.settings, lambda: False, die)
    for _ in range(place.settings.max_attempts - 1):
        assert ingester.run_next("me")
        assert place.dataset(first).state == "validating"
    assert ingester.run_next("me")
    error = place.dataset(first).error
    assert error is not None
    assert (error.code, error.details["exit_code"]) == ("worker_killed", 1)


def test_deleting_the_data_set_ends_its_ingestion_at_once(place: Place) -> None:
    doomed = upload(place, b"anything")

    def delete() -> None:
        place.until(lambda: any(place.leftovers()))
        with place.store.db.write(blobs=True) as tx:
            datasets.remove(tx, TENANT, doomed)

    deleter = threading.Thread(target=delete)
    deleter.start()
    settings = place.settings.model_copy(update={"lease_seconds": 120.0})  # not the heartbeat is to notice it
    began = time.monotonic()
    assert Ingester(place.store, settings, lambda: False, slow).run_next("me")
    deleter.join()
    assert time.monotonic() - began < 20
    assert place.leftovers() == []


def test_the_end_of_the_worker_hands_an_upload_back_at_once(place: Place) -> None:
    first = upload(place, folder_zip({"cat": 3, "dog": 3}))
    began = time.monotonic()
    for _ in range(place.settings.max_attempts + 1):  # ends in good order count as no loss
        assert Ingester(place.store, place.settings, lambda: any(place.leftovers()), slow).run_next("me")
    assert time.monotonic() - began < 60
    assert place.dataset(first).state == "validating"
    assert Ingester(place.store, place.settings, lambda: False).run_next("me")
    assert place.dataset(first).state == "ready"


def test_an_ingestion_without_a_sign_of_life_is_ended(sqlite_place: Place) -> None:
    first = upload(sqlite_place, b"anything")
    settings = sqlite_place.settings.model_copy(update={"stall_seconds": 1.0})
    assert Ingester(sqlite_place.store, settings, lambda: False, hang).run_next("me")
    error = sqlite_place.dataset(first).error
    assert error is not None
    assert error.code == "stalled"


def test_an_upload_that_takes_workers_down_is_given_up(store_with_lost_claims: tuple[Place, str]) -> None:
    place, dataset_id = store_with_lost_claims
    assert Ingester(place.store, place.settings, lambda: False, never).run_next("me")
    error = place.dataset(dataset_id).error
    assert error is not None
    assert error.code == "worker_lost"


@pytest.fixture
def store_with_lost_claims(place: Place) -> tuple[Place, str]:
    """An upload that three workers have claimed and then lost."""
    dataset_id = upload(place, b"anything")
    for _ in range(place.settings.max_attempts):
        with place.store.db.write() as tx:
            assert datasets.claim_next(tx, "lost", 0.01)
        time.sleep(0.05)
    return place, dataset_id


def test_a_real_worker_ingests(sqlite_place: Place, tmp_path: Path) -> None:
    sqlite_place.worker("ingest")
    dataset_id = upload(sqlite_place, folder_zip({"cat": 3, "dog": 3}))
    sqlite_place.until(lambda: sqlite_place.dataset(dataset_id).state != "validating")
    assert sqlite_place.dataset(dataset_id).state == "ready"
