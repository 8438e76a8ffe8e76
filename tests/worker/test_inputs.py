"""What a job is given to read: files of its data sets, and a word that names what was deleted."""

import pytest

from core.contract.base import new_id
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.methods import Shot
from core.contract.models import DataUse, ModelManifest
from core.store import datasets
from core.store.store import Store
from tests.app.bundles import bundle_of, graph, make_bundle, put
from tests.app.seed import TENANT, add_dataset
from worker.engine.door import Inputs
from worker.inputs import InputFinder


def find(store: Store, spec: JobSpec) -> Inputs:
    with store.db.read() as tx:
        return InputFinder(store, tx, TENANT).inputs(new_id("job"), spec)


def remove(store: Store, dataset_id: str) -> None:
    with store.db.write(blobs=True) as tx:
        datasets.remove(tx, TENANT, dataset_id)


def test_the_target_is_read_like_the_source(sqlite_store: Store) -> None:
    source, target = add_dataset(sqlite_store), add_dataset(sqlite_store, classes=(), per_class=9)
    plain = find(sqlite_store, JobSpec(source=source))
    assert plain.target is None
    found = find(sqlite_store, JobSpec(source=source, target=target)).target
    assert found is not None
    assert found.id == target
    assert found.manifest.is_file()
    assert found.content.is_file()


def test_a_job_without_a_source_reads_its_model_and_its_target(sqlite_store: Store) -> None:
    parent = put(sqlite_store, make_bundle()).model
    target = add_dataset(sqlite_store)
    found = find(sqlite_store, JobSpec(method=Shot(), base_model=parent.id, target=target))
    assert found.source is None
    assert found.target is not None
    assert found.target.id == target
    assert found.parent is not None
    assert found.parent.is_file()


def test_a_target_that_was_deleted_is_named(sqlite_store: Store) -> None:
    source, target = add_dataset(sqlite_store), add_dataset(sqlite_store)
    remove(sqlite_store, target)
    with pytest.raises(JobError, match=target) as caught:
        find(sqlite_store, JobSpec(source=source, target=target))
    assert (caught.value.code, caught.value.param) == ("dataset_not_found", "target")
    assert "send the job anew" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("roles", "labelled", "expected"),
    [
        (("source",), True, "source"),
        (("source", "evaluation"), True, "evaluation"),
        (("source", "target"), True, "target"),
        (("source", "target"), False, "source"),
        (("source", "target", "evaluation"), True, "evaluation"),
    ],
)
def test_forgetting_is_measured_where_the_parent_was(
    sqlite_store: Store, roles: tuple[str, ...], labelled: bool, expected: str
) -> None:
    ids = {role: add_dataset(sqlite_store) for role in roles}
    if "target" in ids and not labelled:
        ids["target"] = add_dataset(sqlite_store, classes=())
    parent = put(sqlite_store, bundle_of(_made_from(sqlite_store, ids), graph())).model.id
    spec = JobSpec(source=add_dataset(sqlite_store), base_model=parent)
    former = find(sqlite_store, spec).former
    assert former is not None
    assert former.id == ids[expected]
    remove(sqlite_store, ids[expected])
    assert find(sqlite_store, spec).former is None


def _made_from(store: Store, ids: dict[str, str]) -> ModelManifest:
    manifest = make_bundle().model.manifest
    uses = []
    for role, dataset_id in ids.items():
        with store.db.read() as tx:
            blobs = datasets.blobs(tx, TENANT, dataset_id)
        assert blobs is not None
        uses.append(
            DataUse.model_validate(
                {
                    "dataset_id": dataset_id,
                    "role": role,
                    "manifest_sha256": blobs.manifest_sha256,
                    "content_sha256": blobs.content_sha256,
                    "items": 6,
                    "splits": {},
                }
            )
        )
    return manifest.model_copy(update={"data": uses})
