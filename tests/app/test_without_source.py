"""Jobs without a `source`: who can do without, from which models, and that all that a job has works for them, too."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.reports.page import Extras, render
from core.contract.base import new_id
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS, Shot
from core.contract.prepare import NumberColumn, TabularPrepare
from core.contract.reports import Report
from core.contract.verdicts import Arm, GuardReport, Judgement
from core.store import datasets, jobs
from core.store.store import Store
from migrations.run import config
from tests.app.bundles import bundle_of, graph, make_bundle, manifest_of, put
from tests.app.sample_reports import sample_report
from tests.app.seed import OTHER, TENANT, add_dataset
from tests.app.test_report import Page
from tests.app.test_tables import create, make_ready

SHOT = {"name": "shot"}


def model(store: Store, *classes: str, tenant: str = TENANT, **said: Any) -> str:
    """A classifier of the tenant's own."""
    prepare = make_bundle().model.manifest.prepare
    manifest = manifest_of(classes=list(classes or ("cat", "dog")), prepare=prepare, **said)
    return put(store, bundle_of(manifest, graph()), tenant).model.id


def _post(client: TestClient, **body: Any) -> Any:
    return client.post("/jobs", json={"method": SHOT} | body)


def _refused(reply: Any, status: int, code: str, param: str) -> Any:
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param), error
    assert error["hint"]
    return error


def test_a_model_and_a_target_are_enough(client: TestClient, store: Store) -> None:
    own, target = model(store), add_dataset(store, classes=(), per_class=12)
    reply = _post(client, base_model=own, target=target)
    job = reply.json()
    assert reply.status_code == 201, job
    assert (job["source"], job["base_model"], job["target"]) == (None, own, target)
    assert client.get(f"/jobs/{job['id']}").json() == job
    assert [one["id"] for one in client.get("/jobs", params={"target": target}).json()["data"]] == [job["id"]]
    labelled = add_dataset(store, per_class=6)
    for more in ({}, {"target_labels": "few"}, {"evaluation": add_dataset(store)}):
        assert _post(client, base_model=own, target=labelled, **more).status_code == 201, more


def test_it_is_estimated(client: TestClient, store: Store) -> None:
    own, target = model(store), add_dataset(store, per_class=6)
    found = client.post("/jobs?dry_run=true", json={"method": SHOT, "base_model": own, "target": target}).json()
    assert (found["valid"], found["base_model"]) == (True, own)
    assert found["estimate"]["parts"]["train"] > 0
    assert client.get("/jobs").json()["data"] == []
    source = add_dataset(store, per_class=6)
    both = client.post("/jobs?dry_run=true", json={"method": SHOT, "source": source, "target": target}).json()
    assert found["estimate"]["parts"]["features"] < both["estimate"]["parts"]["features"], "fewer items to embed"


def test_every_other_method_needs_a_source(client: TestClient, store: Store) -> None:
    own, target = model(store), add_dataset(store, per_class=6)
    others = [name for name, options in METHODS.items() if not options.source_optional]
    assert len(others) > 30
    for name in others:
        method = {"name": name}
        error = _refused(_post(client, method=method, base_model=own, target=target), 422, "source_required", "source")
        assert f"`{name}`" in error["message"]
        assert "`shot`" in error["hint"]
        assert error["details"] == {"methods": ["shot"]}
    cards = {card["name"]: card["needs_source"] for card in client.get("/methods").json()["data"]}
    assert [name for name, needs in cards.items() if not needs] == ["shot"]


def test_it_has_to_start_from_a_classifier_of_ones_own(client: TestClient, store: Store) -> None:
    target = add_dataset(store, per_class=6)
    for base in (None, "efficientnet_lite0", "timm:resnet18"):
        body = {"target": target} | ({} if base is None else {"base_model": base})
        error = _refused(_post(client, **body), 422, "own_model_required", "base_model")
        assert "GET /models" in error["hint"]
    _refused(_post(client, target=target, base_model=new_id("mdl")), 404, "model_not_found", "base_model")
    foreign = model(store, tenant=OTHER)
    _refused(_post(client, target=target, base_model=foreign), 404, "model_not_found", "base_model")
    prepare = make_bundle().model.manifest.prepare
    for said in ({"problem": "regression", "classes": []}, {"problem": "multi_label", "classes": ["cat", "dog"]}):
        unfit = put(store, bundle_of(manifest_of(prepare=prepare, **said), graph())).model.id
        error = _refused(_post(client, target=target, base_model=unfit), 409, "classifier_required", "base_model")
        assert said["problem"] in error["message"]
    embedding = put(store, bundle_of(manifest_of(prepare=prepare, classes=[]), graph())).model.id
    error = _refused(_post(client, target=target, base_model=embedding), 409, "classifier_required", "base_model")
    assert "no classifier" in error["message"]
    _refused(_post(client, base_model=model(store)), 422, "target_required", "target")


def test_the_target_is_held_against_the_model(client: TestClient, store: Store, tmp_path: Path) -> None:
    own = model(store)
    error = _refused(
        _post(client, base_model=own, target=add_dataset(store, classes=("cat", "emu"), per_class=6)),
        409,
        "label_space_open",
        "target",
    )
    assert error["details"] == {"unknown_classes": ["emu"], "source_classes": ["cat", "dog"]}
    assert "the model has not" in error["message"]
    three = model(store, "cat", "dog", "emu")
    error = _refused(
        _post(client, base_model=three, target=add_dataset(store, per_class=6)), 409, "label_space_partial", "method"
    )
    assert "the model's classes" in error["message"]
    small = add_dataset(store, classes=(), per_class=9)
    _refused(_post(client, base_model=own, target=small), 409, "too_few_items", "target")
    flat = add_dataset(store, classes=(), per_class=12)
    _refused(_post(client, base_model=own, target=flat, target_labels="few"), 409, "labels_required", "target")
    strange = add_dataset(store, classes=("cat", "emu"))
    _refused(_post(client, base_model=own, target=flat, evaluation=strange), 409, "classes_differ", "evaluation")
    _refused(_post(client, base_model=own, target=flat, evaluation=flat), 422, "evaluation_is_target", "evaluation")
    made = create(client, "size,weight\n" + "".join(f"{n * 3},{n % 7}\n" for n in range(30)))
    make_ready(store, tmp_path, "size,weight\n" + "".join(f"{n * 3},{n % 7}\n" for n in range(30)))
    error = _refused(_post(client, base_model=own, target=made["id"]), 409, "modalities_differ", "target")
    assert "the model is image" in error["message"]
    columns = TabularPrepare(numbers=[NumberColumn(name="height", mean=0, scale=1)])
    rows = put(store, bundle_of(manifest_of(classes=["a", "b"], prepare=columns, modality="tabular"), graph())).model.id
    error = _refused(_post(client, base_model=rows, target=made["id"]), 409, "columns_differ", "target")
    assert error["details"]["source_columns"] == ["height"]


def test_what_the_model_learnt_from_is_nothing_to_adapt_to(client: TestClient, store: Store) -> None:
    target = add_dataset(store, per_class=6)
    with store.db.read() as tx:
        blobs = datasets.blobs(tx, TENANT, target)
    assert blobs is not None
    use = {"dataset_id": target, "role": "source", "items": 12, "splits": {}}
    use |= {"manifest_sha256": blobs.manifest_sha256, "content_sha256": blobs.content_sha256}
    own = model(store, data=[use])
    _refused(_post(client, base_model=own, target=target), 409, "target_is_source", "target")


@pytest.mark.parametrize(
    ("option", "value"), [("init", "scratch"), ("source_epochs", 3), ("bottleneck", 64), ("label_smoothing", 0.0)]
)
def test_options_of_a_source_are_refused(option: str, value: object, client: TestClient, store: Store) -> None:
    own, target = model(store), add_dataset(store, per_class=6)
    assert {"init", "source_epochs", "bottleneck", "label_smoothing"} == set(Shot.of_source)
    method = SHOT | {option: value}
    _refused(_post(client, method=method, base_model=own, target=target), 422, "not_applicable", f"method.{option}")
    assert _post(client, method=method, source=add_dataset(store), target=target).status_code == 201
    rest = SHOT | {"epochs": 3, "freeze": "none", "pseudo_labels": 0.1}
    assert _post(client, method=rest, base_model=own, target=target).status_code == 201


def test_its_target_stays_while_it_is_needed(client: TestClient, store: Store) -> None:
    own, target = model(store), add_dataset(store, per_class=6)
    job = _post(client, base_model=own, target=target).json()["id"]
    assert client.delete(f"/datasets/{target}").json()["error"]["code"] == "dataset_in_use"
    with store.db.write() as tx:
        jobs.transition(tx, job, "cancelled")
    assert client.delete(f"/datasets/{target}").status_code == 204
    assert client.get(f"/jobs/{job}").json()["source"] is None


def test_the_page_of_a_report_without_figures_says_so() -> None:
    guard = GuardReport(verdict="improved", confidence=0.7, accepted=False, reasons=["No source."], checks=[])
    judgement = Judgement(
        verdict="improved",
        sentence="By all that can be known.",
        metric="accuracy",
        baseline="previous_model",
        items=20,
        margin=0.02,
        served="previous_model",
        guard=guard,
    )
    nothing: dict[str, Any] = {"metrics": [], "class_table": [], "confusion": [], "calibration": None, "mistakes": []}
    counts = {"train_items": 0, "validation_items": 0, "held_out_items": 0}
    arms = [
        Arm(name="shot", role="method", state="measured"),
        Arm(name="previous_model", role="baseline", state="measured", served=True),
    ]
    report = Report.model_validate(
        sample_report().model_dump() | nothing | counts | {"evaluated_on": "nothing", "method": "shot"}
    ).model_copy(update={"judgement": judgement, "arms": arms, "shift": None})
    page = Page(render(report, Extras(target="new photos"))).text
    assert "Nobody knows: no item has a label to measure with." in page
    assert "in place of the model as it was" in page
    assert "The model it started from: there is nothing to measure it on" in page
    assert "Adapted to" in page
    assert "new photos" in page
    assert "Trained on" not in page
    assert "Measured on" not in page
    assert "Intervals are" not in page


def test_a_database_that_is_older_keeps_its_jobs_and_their_events(store: Store) -> None:
    """Down and up again: on SQLite a column cannot be changed in place, and jobs are what events hang on."""
    first, alone = new_id("job"), new_id("job")
    with store.db.write() as tx:
        jobs.add(tx, TENANT, first, JobSpec(source=new_id("ds")))
    for step, done in ((command.downgrade, "0005"), (command.upgrade, "head")):
        settings = config()
        with store.db.write() as tx:
            settings.attributes["connection"] = tx
            step(settings, done)
        with store.db.read() as tx:
            kept = tx.execute(text("SELECT id, source_id FROM jobs")).one()
            assert (kept.id, kept.source_id[:3]) == (first, "ds_")
            assert tx.execute(text("SELECT count(*) FROM events")).scalar() == 1
    spec = JobSpec(method=Shot(), base_model=new_id("mdl"), target=new_id("ds"))
    with store.db.write() as tx:
        assert jobs.add(tx, TENANT, alone, spec).source is None
    settings = config()
    with store.db.write() as tx:
        settings.attributes["connection"] = tx
        command.downgrade(settings, "0005")
        assert tx.execute(text("SELECT count(*) FROM jobs WHERE source_id = ''")).scalar() == 1
