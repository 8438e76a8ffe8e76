"""Jobs with a `target`: what goes together, which labels it may have, that it is kept while it is needed."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.contract.base import new_id
from core.contract.methods import METHODS
from core.store import jobs
from core.store.store import Store
from tests.app.seed import OTHER, add_dataset
from tests.app.test_tables import create, make_ready

ADAPTING = [name for name, options in METHODS.items() if options.adapts and not options.heterogeneous]
CLOSED_ONLY = [name for name in ADAPTING if "partial" not in METHODS[name].label_spaces and METHODS[name].makes_model]


def _post(client: TestClient, **body: Any) -> Any:
    return client.post("/jobs", json=body)


def _refused(reply: Any, status: int, code: str, param: str) -> Any:
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param), error
    assert error["hint"]
    return error


def _table(client: TestClient, store: Store, place: Path, data: str, **said: str) -> str:
    made = create(client, data, **said)
    make_ready(store, place, data)
    assert client.get(f"/datasets/{made['id']}").json()["state"] == "ready"
    return str(made["id"])


def test_a_target_is_entered_listed_and_defaults_to_measuring_alone(client: TestClient, store: Store) -> None:
    source, target, other = (add_dataset(store, per_class=6) for _ in range(3))
    plain = _post(client, source=source).json()
    assert (plain["target"], plain["target_labels"]) == (None, "evaluation")
    reply = _post(client, source=source, target=target)
    job = reply.json()
    assert (reply.status_code, job["method"]["name"]) == (201, "auto")
    assert (job["target"], job["target_labels"]) == (target, "evaluation")
    assert client.get(f"/jobs/{job['id']}").json() == job
    few = _post(client, source=source, target=other, target_labels="few").json()
    assert few["target_labels"] == "few"
    found = {
        one: [job["id"] for job in client.get("/jobs", params={"target": one}).json()["data"]]
        for one in (target, other, source)
    }
    assert found == {target: [job["id"]], other: [few["id"]], source: []}


def test_adapting_methods_need_a_target(client: TestClient, store: Store) -> None:
    source, target = add_dataset(store), add_dataset(store, per_class=6)
    assert ADAPTING
    for name in ADAPTING:
        method = {"name": name}
        error = _refused(_post(client, source=source, method=method), 422, "target_required", "target")
        assert "`auto`" in error["hint"]
        assert _post(client, source=source, target=target, method=method).status_code == 201, name


def test_other_methods_take_no_target(client: TestClient, store: Store) -> None:
    source, target = add_dataset(store), add_dataset(store, per_class=6)
    for name in ("linear_probe", "fine_tune", "rank_base_models"):
        reply = _post(client, source=source, target=target, method={"name": name})
        error = _refused(reply, 422, "not_applicable", "target")
        assert {"auto", *ADAPTING} <= set(error["details"]["methods"])
        assert "`auto`" in error["hint"]
    arms = {"name": "auto", "arms": ["linear_probe"]}
    error = _refused(_post(client, source=source, target=target, method=arms), 422, "not_applicable", "method.arms")
    assert "Leave `arms` out" in error["hint"]
    for use in ("few", "none"):
        _refused(_post(client, source=source, target_labels=use), 422, "target_required", "target_labels")
    error = _refused(
        _post(client, source=source, target=target, target_labels="all"), 422, "invalid_value", "target_labels"
    )
    assert "evaluation" in error["message"] + error["hint"]


def test_a_target_must_be_there_ready_and_another(client: TestClient, store: Store) -> None:
    source, target = add_dataset(store, per_class=6), add_dataset(store, per_class=6)
    for gone in (add_dataset(store, tenant=OTHER), new_id("ds")):
        _refused(_post(client, source=source, target=gone), 404, "dataset_not_found", "target")
    waiting, rejected = add_dataset(store, state="validating"), add_dataset(store, state="rejected")
    _refused(_post(client, source=source, target=waiting), 409, "dataset_not_ready", "target")
    _refused(_post(client, source=source, target=rejected), 409, "dataset_rejected", "target")
    _refused(_post(client, source=source, target=source), 422, "target_is_source", "target")
    _refused(_post(client, source=source, target=target, evaluation=target), 422, "evaluation_is_target", "evaluation")
    small = add_dataset(store, classes=(), per_class=9)
    error = _refused(_post(client, source=source, target=small), 409, "too_few_items", "target")
    assert error["details"] == {"items": 9, "least": 10}
    assert _post(client, source=source, target=add_dataset(store, classes=(), per_class=10)).status_code == 201
    _refused(_post(client, source=source, target="animals"), 422, "invalid_value", "target")


def test_something_must_be_left_to_measure_on(client: TestClient, store: Store) -> None:
    """The target's labels measure; where it has none, or they are not to be read, the source's test split does."""
    unmeasured = add_dataset(store, per_class=6, test=0)
    labelled, flat = add_dataset(store, per_class=6), add_dataset(store, classes=(), per_class=12)
    assert _post(client, source=unmeasured, target=labelled).status_code == 201
    _refused(_post(client, source=unmeasured, target=flat), 409, "no_held_out_items", "source")
    reply = _post(client, source=unmeasured, target=labelled, target_labels="none")
    _refused(reply, 409, "no_held_out_items", "source")
    assert _post(client, source=unmeasured, target=flat, evaluation=labelled).status_code == 201


def test_a_shift_is_measured_between_items_without_labels(client: TestClient, store: Store) -> None:
    source, target = (add_dataset(store, classes=(), per_class=12) for _ in range(2))
    method = {"name": "domain_shift"}
    assert _post(client, source=source, target=target, method=method).status_code == 201
    _refused(_post(client, source=source, target=target), 409, "labels_required", "source")
    body = {"source": source, "target": target, "method": method, "evaluation": add_dataset(store)}
    _refused(_post(client, **body), 422, "not_applicable", "evaluation")


def test_few_labels_have_to_be_there(client: TestClient, store: Store) -> None:
    source, flat = add_dataset(store, per_class=6), add_dataset(store, classes=(), per_class=12)
    assert _post(client, source=source, target=flat).status_code == 201
    error = _refused(_post(client, source=source, target=flat, target_labels="few"), 409, "labels_required", "target")
    assert "unlabelled" in error["hint"]


def test_classes_that_the_source_has_not_are_refused(client: TestClient, store: Store) -> None:
    source, target = add_dataset(store, per_class=6), add_dataset(store, classes=("cat", "Dog", "emu"), per_class=6)
    for use in ("evaluation", "few"):
        error = _refused(
            _post(client, source=source, target=target, target_labels=use), 409, "label_space_open", "target"
        )
        assert error["details"] == {"unknown_classes": ["Dog", "emu"], "source_classes": ["cat", "dog"]}
        assert "Did you mean `dog`?" in error["hint"]
        assert "`fine_tune`" in error["hint"]
    assert _post(client, source=source, target=target, target_labels="none").status_code == 201


def test_a_target_with_some_of_the_classes_needs_a_method_for_that(client: TestClient, store: Store) -> None:
    source = add_dataset(store, classes=("cat", "dog", "emu"), per_class=6)
    target = add_dataset(store, classes=("cat", "emu"), per_class=6)
    partly = add_dataset(store, classes=("cat", "emu"), per_class=6, unlabelled=4)
    assert _post(client, source=source, target=target).status_code == 201
    assert CLOSED_ONLY
    for name in CLOSED_ONLY:
        method = {"name": name}
        reply = _post(client, source=source, target=target, method=method)
        error = _refused(reply, 409, "label_space_partial", "method")
        assert error["details"]["absent_classes"] == ["dog"]
        assert "auto" in error["details"]["methods"]
        assert name not in error["details"]["methods"]
        assert "`auto`" in error["hint"]
        # Neither labels of a few items, nor labels that nobody reads, say that a class is absent.
        assert _post(client, source=source, target=partly, method=method).status_code == 201
        assert _post(client, source=source, target=target, method=method, target_labels="none").status_code == 201


def test_source_and_target_are_of_one_kind(client: TestClient, store: Store, tmp_path: Path) -> None:
    images = add_dataset(store, per_class=6)
    head, numbers = "size,weight,kind\n", [f"{n * 3},{n % 7}" for n in range(30)]
    classes = _table(client, store, tmp_path, head + "".join(f"{row},{'ab'[n % 2]}\n" for n, row in enumerate(numbers)))
    values = _table(
        client,
        store,
        tmp_path,
        head + "".join(f"{row},{n * 1.5}\n" for n, row in enumerate(numbers)),
        target="kind",
        problem="regression",
    )
    error = _refused(_post(client, source=images, target=classes), 409, "modalities_differ", "target")
    assert "image" in error["message"]
    error = _refused(_post(client, source=values, target=classes), 409, "problem_not_supported", "source")
    assert "`fine_tune`" in error["hint"]
    _refused(_post(client, source=classes, target=values), 409, "problems_differ", "target")
    assert _post(client, source=classes, target=values, target_labels="none").status_code == 201


def test_tables_have_columns_in_common(client: TestClient, store: Store, tmp_path: Path) -> None:
    rows = "".join(f"{n * 3},{n % 7},{'ab'[n % 2]}\n" for n in range(30))
    source = _table(client, store, tmp_path, f"size,weight,kind\n{rows}", target="kind")
    partly = _table(client, store, tmp_path, f"size,depth,kind\n{rows}", target="kind")
    foreign = _table(client, store, tmp_path, f"height,depth,kind\n{rows}", target="kind")
    assert _post(client, source=source, target=partly).status_code == 201
    error = _refused(_post(client, source=source, target=foreign), 409, "columns_differ", "target")
    assert error["details"]["source_columns"] == ["size", "weight"]
    assert error["details"]["target_columns"] == ["height", "depth"]


def test_a_dry_run_is_checked_alike(client: TestClient, store: Store) -> None:
    source, target = add_dataset(store, per_class=6), add_dataset(store, per_class=6)
    body = {"source": source, "target": source}
    _refused(client.post("/jobs?dry_run=true", json=body), 422, "target_is_source", "target")
    assert client.post("/jobs?dry_run=true", json={**body, "target": target}).status_code == 200
    assert client.get("/jobs").json()["data"] == []


@pytest.mark.parametrize("running", [False, True])
def test_a_target_stays_while_it_is_needed(client: TestClient, store: Store, running: bool) -> None:
    source, target = add_dataset(store, per_class=6), add_dataset(store, per_class=6)
    job = _post(client, source=source, target=target).json()["id"]
    if running:
        with store.db.write() as tx:
            assert jobs.claim_next(tx, "test", 60) is not None
    reply = client.delete(f"/datasets/{target}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "dataset_in_use")
    with store.db.write() as tx:
        jobs.transition(tx, job, "cancelled")
    assert client.delete(f"/datasets/{target}").status_code == 204
    assert client.get(f"/jobs/{job}").json()["target"] == target


def test_the_menu_says_who_takes_a_target(client: TestClient) -> None:
    cards = {card["name"]: card for card in client.get("/methods").json()["data"]}
    assert (cards["auto"]["needs_target"], cards["auto"]["takes_target"]) == (False, True)
    assert cards["auto"]["label_spaces"] == ["closed", "partial"]
    assert (cards["fine_tune"]["needs_target"], cards["fine_tune"]["takes_target"]) == (False, False)
    assert cards["fine_tune"]["shifts"] == []
    for name in ADAPTING:
        assert (cards[name]["needs_target"], cards[name]["takes_target"]) == (True, True)
        assert cards[name]["label_spaces"] == list(METHODS[name].label_spaces)


def test_one_audit_label_of_a_class_measures_nothing(client: TestClient, store: Store) -> None:
    """With `few` it chooses; where no class has a second one, the source's test split measures."""
    unmeasured = add_dataset(store, per_class=6, test=0)
    single = add_dataset(store, per_class=6, unlabelled=10)
    pairs = add_dataset(store, per_class=6, unlabelled=8)
    assert _post(client, source=unmeasured, target=single).status_code == 201
    reply = _post(client, source=unmeasured, target=single, target_labels="few")
    _refused(reply, 409, "no_held_out_items", "source")
    assert _post(client, source=unmeasured, target=pairs, target_labels="few").status_code == 201


def test_where_the_target_measures_the_test_split_is_learnt_from(client: TestClient, store: Store) -> None:
    half = add_dataset(store, classes=("cat", "dog", "emu"), untrained=("emu",), per_class=6)
    labelled = add_dataset(store, classes=("cat", "dog", "emu"), per_class=6)
    flat = add_dataset(store, classes=(), per_class=12)
    assert _post(client, source=half, target=labelled).status_code == 201
    _refused(_post(client, source=half, target=flat), 409, "class_without_items", "source")
