"""One uploaded model, one child process: a model of ours, or a rejection that leaves nothing behind."""

import io
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.base import new_id, now
from core.contract.imports import Import
from core.store import imports, models
from tests.engine.jobs import TINY, tiny_state
from tests.engine.uploads import entry, forged, members, state_bytes, zipped
from tests.worker.conftest import TENANT, Place
from worker import children
from worker.child import Link
from worker.importing import ModelImporter


@pytest.fixture(autouse=True)
def _warm() -> None:
    children.warm("jobs")


def upload(place: Place, data: bytes, base_model: str | None = TINY, classes: list[str] | None = None) -> str:
    """What the API does with an upload."""
    with place.store.db.write(blobs=True) as tx:
        sha256 = place.store.blobs.put(data)
        made = Import(
            id=new_id("imp"),
            state="validating",
            name="mine",
            base_model=base_model,
            classes=classes,
            bytes=len(data),
            created_at=now(),
        )
        imports.add(tx, TENANT, made, upload_sha256=sha256)
    return made.id


def importer(place: Place, **values: Any) -> ModelImporter:
    return ModelImporter(place.store, place.settings.model_copy(update={"threads": 1}), lambda: False, **values)


def found(place: Place, import_id: str) -> Import:
    with place.store.db.read() as tx:
        return imports.get(tx, TENANT, import_id)


def blobs(place: Place) -> set[str]:
    return {path.name for path in place.store.blobs.root.glob("??/*")}


def die(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that is lost."""
    os._exit(1)


def sleep(_link: Link, *_args: Any) -> dict[str, Any]:
    """A child that takes its time."""
    time.sleep(120)
    return {}


def test_weights_become_a_model_and_the_upload_goes(sqlite_place: Place) -> None:
    place = sqlite_place
    import_id = upload(place, state_bytes(tiny_state()), classes=[f"c{i}" for i in range(1000)])
    assert importer(place).run_next("me")
    done = found(place, import_id)
    assert done.error is None
    assert done.state == "ready"
    assert done.finished_at is not None
    with place.store.db.read() as tx:
        model = models.get(tx, TENANT, str(done.model_id))
    assert (model.method, model.job_id, model.metrics, len(model.classes)) == ("import", None, {}, 1000)
    assert blobs(place) == {model.sha256}
    assert set(members(place.store.blob(model.sha256))) == {file.name for file in model.files}
    assert place.leftovers() == []
    assert not importer(place).run_next("me")


class Canary:
    """Pickled, it touches a file when somebody loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _torch_zip(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Canary(path), buffer)
    return buffer.getvalue()


def test_hostile_uploads_are_rejected_and_leave_nothing(sqlite_place: Place, tmp_path: Path) -> None:
    place, canary = sqlite_place, tmp_path / "canary"
    probe = tmp_path / "probe"
    pickle.loads(pickle.dumps(Canary(probe)))
    assert probe.exists()  # the canary works where pickles are loaded
    nan = dict(tiny_state())
    nan["fc.weight"] = torch.full_like(nan["fc.weight"], float("nan"))
    whole = state_bytes(tiny_state())
    hostile = {
        "truncated": (whole[: len(whole) // 2], "invalid_safetensors"),
        "2^63": (forged({"a": entry(0, 4)}, bytes(4), length=2**63), "invalid_safetensors"),
        "one gigabyte claimed": (forged({"a": entry(0, 2**30)}, bytes(64)), "invalid_safetensors"),
        "nan": (state_bytes(nan), "weights_not_finite"),
        "extra": (state_bytes(tiny_state() | {"evil": torch.zeros(1)}), "weights_mismatch"),
        "pickle in a zip": (_torch_zip(canary), "invalid_bundle"),
        "pickle": (pickle.dumps(Canary(canary)), "invalid_safetensors"),
        "pickle in a bundle": (
            zipped({"manifest.json": b"{}", "model.safetensors": pickle.dumps(Canary(canary))}),
            "invalid_manifest",
        ),
        "zip bomb": (zipped({"manifest.json": b"{}", "model.safetensors": bytes(256 << 20)}, 8), "invalid_bundle"),
        "path": (zipped({"manifest.json": b"{}", "model.safetensors": b"", "../evil": b""}), "invalid_bundle"),
    }
    for name, (data, code) in hostile.items():
        import_id = upload(place, data)
        assert importer(place).run_next("me")
        done = found(place, import_id)
        assert done.state == "rejected", name
        assert done.error is not None
        assert (done.error.code, bool(done.error.hint)) == (code, True), name
        assert blobs(place) == set(), name
        assert place.leftovers() == [], name
    assert not canary.exists()


def test_a_lost_child_is_tried_again_and_not_for_ever(sqlite_place: Place) -> None:
    import_id = upload(sqlite_place, b"x")
    dying = importer(sqlite_place, work=die)
    for _ in range(sqlite_place.settings.max_attempts - 1):
        assert dying.run_next("me")
        assert found(sqlite_place, import_id).state == "validating"
    assert dying.run_next("me")
    done = found(sqlite_place, import_id)
    assert done.state == "rejected"
    assert done.error is not None
    assert done.error.code == "worker_killed"
    assert blobs(sqlite_place) == set()
    assert not dying.run_next("me")


def test_an_import_deleted_on_its_way_ends_its_child(place: Place) -> None:
    import_id = upload(place, b"x")
    thread = threading.Thread(target=importer(place, work=sleep).run_next, args=("me",))
    thread.start()
    place.until(lambda: any((place.settings.root / "work").glob("imp_*")))
    with place.store.db.write() as tx:
        imports.remove(tx, TENANT, import_id)
    thread.join(60)
    assert not thread.is_alive()
    assert place.leftovers() == []


def test_a_worker_that_ends_hands_its_import_back(place: Place) -> None:
    import_id = upload(place, b"x")
    stopping = ModelImporter(place.store, place.settings, lambda: True, sleep)
    assert stopping.run_next("me")
    assert found(place, import_id).state == "validating"
    with place.store.db.write() as tx:
        claim = imports.claim_next(tx, "another", 10)
    assert claim is not None
    assert claim.fence.attempt == 2


def test_a_late_worker_writes_nothing(place: Place) -> None:
    import_id = upload(place, b"x")
    with place.store.db.write() as tx:
        first = imports.claim_next(tx, "first", -1)
        second = imports.claim_next(tx, "second", 60)
    assert first is not None
    assert second is not None
    with place.store.db.read() as tx:
        assert not imports.is_validating(tx, first.fence)
        assert imports.is_validating(tx, second.fence)
    assert found(place, import_id).state == "validating"
