"""Jobs over HTTP: what is accepted, what is refused and why, lists, stop and cancel, idempotency."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.contract.base import new_id
from core.store import jobs
from core.store.store import Store
from tests.app.bundles import make_bundle, put
from tests.app.seed import OTHER, add_dataset, add_job, start_job


def _post(client: TestClient, key: str | None = None, **body: Any) -> Any:
    return client.post("/jobs", json=body, headers={"Idempotency-Key": key} if key else {})


def _refused(reply: Any, status: int, code: str, param: str) -> Any:
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["hint"]
    return error


def test_a_job_is_entered_and_can_be_read_at_once(client: TestClient, store: Store) -> None:
    source, evaluation = add_dataset(store), add_dataset(store)
    method = {"name": "fine_tune", "epochs": 2}
    reply = _post(client, source=source, evaluation=evaluation, method=method, metadata={"a": "b"}, seed=3)
    job = reply.json()
    assert reply.status_code == 201
    assert reply.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["source"], job["seed"], job["metadata"]) == ("queued", source, 3, {"a": "b"})
    assert job["method"]["epochs"] == 2
    assert client.get(f"/jobs/{job['id']}").json() == job


def test_data_that_a_job_cannot_run_on_is_refused(client: TestClient, store: Store) -> None:
    ready = add_dataset(store)
    new, rejected = add_dataset(store, state="validating"), add_dataset(store, state="rejected")
    flat, single = add_dataset(store, classes=()), add_dataset(store, classes=("cat",))
    strange = add_dataset(store, classes=("cat", "Dog"))
    foreign, never, deleted = add_dataset(store, tenant=OTHER), new_id("ds"), add_dataset(store)
    assert client.delete(f"/datasets/{deleted}").status_code == 204
    for gone in (foreign, never, deleted):
        _refused(_post(client, source=gone), 404, "dataset_not_found", "source")
        _refused(_post(client, source=ready, evaluation=gone), 404, "dataset_not_found", "evaluation")
    _refused(_post(client, source=new), 409, "dataset_not_ready", "source")
    _refused(_post(client, source=rejected), 409, "dataset_rejected", "source")
    _refused(_post(client, source=ready, evaluation=rejected), 409, "dataset_rejected", "evaluation")
    _refused(_post(client, source=flat), 409, "labels_required", "source")
    _refused(_post(client, source=ready, evaluation=flat), 409, "labels_required", "evaluation")
    _refused(_post(client, source=single), 409, "too_few_classes", "source")
    error = _refused(_post(client, source=ready, evaluation=strange), 409, "classes_differ", "evaluation")
    assert error["details"]["unknown_classes"] == ["Dog"]
    assert "`dog`" in error["hint"]
    assert client.get("/jobs").json()["data"] == []


def test_a_job_that_could_only_fail_is_not_taken(client: TestClient, store: Store) -> None:
    ready, unmeasured = add_dataset(store), add_dataset(store, test=0)
    half = add_dataset(store, classes=("cat", "dog", "emu"), untrained=("emu",))
    _refused(_post(client, source=ready, evaluation=ready), 422, "evaluation_is_source", "evaluation")
    _refused(_post(client, source=unmeasured), 409, "no_held_out_items", "source")
    assert _post(client, source=unmeasured, evaluation=ready).status_code == 201
    error = _refused(_post(client, source=half), 409, "class_without_items", "source")
    assert error["details"]["classes"] == ["emu"]
    assert _post(client, source=half, evaluation=ready).status_code == 201  # its test items are trained on then


def test_base_models_and_stages_are_checked(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    error = _refused(_post(client, source=source, base_model="resnet_18"), 422, "unknown_base_model", "base_model")
    assert "resnet18" in error["hint"]
    _refused(_post(client, source=source, base_model="timm:\u0000"), 422, "invalid_value", "base_model")
    foreign = put(store, make_bundle(), tenant=OTHER).model.id
    for model in (foreign, new_id("mdl"), "mdl_x"):
        _refused(_post(client, source=source, base_model=model), 404, "model_not_found", "base_model")
    mine = put(store, make_bundle()).model.id
    assert _post(client, source=source, base_model=mine).status_code == 201
    assert _post(client, source=source, base_model="timm:resnet10t").status_code == 201
    for name in ("hf:../x", "hf:a/b/c"):
        _refused(_post(client, source=source, base_model=name), 422, "unknown_base_model", "base_model")
    for name in ("minilm_l6", "hf:bert-base-uncased"):
        _refused(_post(client, source=source, base_model=name), 409, "modalities_differ", "base_model")
    method = {"name": "fine_tune", "freeze": "layer9"}
    error = _refused(
        _post(client, source=source, base_model="resnet18", method=method), 422, "unknown_stage", "method.freeze"
    )
    stages = error["details"]["stages"]
    assert stages
    for freeze in ("none", "all", stages[0]):
        method = {"name": "fine_tune", "freeze": freeze}
        assert _post(client, source=source, base_model="resnet18", method=method).status_code == 201


def test_lists_are_filtered_and_paged(client: TestClient, store: Store) -> None:
    one, two = add_dataset(store), add_dataset(store)
    first = _post(client, source=one).json()["id"]
    second = _post(client, source=two, method={"name": "fine_tune"}).json()["id"]
    third = _post(client, source=two).json()["id"]
    client.post(f"/jobs/{third}/cancel")

    def listed(**wanted: Any) -> list[str]:
        return [job["id"] for job in client.get("/jobs", params=wanted).json()["data"]]

    assert listed() == [third, second, first]
    assert listed(state="queued") == [second, first]
    assert listed(method="fine_tune") == [second]
    assert listed(source=two) == [third, second]
    page = client.get("/jobs?limit=1").json()
    assert (page["has_more"], page["next_cursor"]) == (True, third)
    assert listed(cursor=third) == [second, first]
    for foreign in ("zzz", one, "job_x"):
        error = client.get("/jobs", params={"cursor": foreign}).json()["error"]
        assert (error["code"], error["param"]) == ("invalid_cursor", "cursor")
        assert "next_cursor" in error["hint"]


def test_stop_and_cancel(client: TestClient, store: Store) -> None:
    job = add_job(store, add_dataset(store))
    early = client.post(f"/jobs/{job}/stop")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_started")
    fence = start_job(store)
    stopped = client.post(f"/jobs/{job}/stop")
    assert (stopped.status_code, stopped.json()["stop_requested"], stopped.json()["state"]) == (202, True, "running")
    assert client.post(f"/jobs/{job}/cancel").json()["cancel_requested"] is True
    with store.db.write() as tx:
        assert jobs.heartbeat(tx, fence, 60).cancel
        jobs.transition(tx, job, "cancelled", fence=fence)
    for wish in ("stop", "cancel"):
        late = client.post(f"/jobs/{job}/{wish}")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "job_finished")
        assert "was cancelled" in late.json()["error"]["message"]
    queued = add_job(store, add_dataset(store))
    assert client.post(f"/jobs/{queued}/cancel").json()["state"] == "cancelled"


def test_fifty_posts_with_one_key_make_one_job(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: _post(client, "one-key", source=source), range(50)))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.content for reply in replies}) == 1
    assert sum("Idempotent-Replayed" not in reply.headers for reply in replies) == 1
    assert len(client.get("/jobs?limit=100").json()["data"]) == 1


def test_a_key_belongs_to_one_request(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    first = _post(client, "k", source=source)
    same = _post(client, "k", source=source, seed=0, method={"name": "auto"})  # the defaults, spelt out
    assert (same.json(), same.headers["Idempotent-Replayed"]) == (first.json(), "true")
    other = _post(client, "k", source=source, seed=1)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    client.post(f"/jobs/{first.json()['id']}/cancel")
    assert client.delete(f"/datasets/{source}").status_code == 204
    assert _post(client, "k", source=source).json() == first.json()


def test_a_refused_request_does_not_use_its_key_up(client: TestClient, store: Store) -> None:
    source = add_dataset(store, state="validating")
    assert _post(client, "k", source=source).status_code == 409
    assert _post(client, "k", source=add_dataset(store)).status_code == 201
    ill = _post(client, "a b", source=source).json()["error"]
    assert (ill["code"], ill["param"]) == ("invalid_value", "Idempotency-Key")


@pytest.mark.parametrize("form", [False, True])
def test_an_upload_with_a_key_makes_one_data_set(client: TestClient, store: Store, form: bool) -> None:
    headers = {"Idempotency-Key": "up"}

    def post(data: bytes, name: str) -> Any:
        if form:
            return client.post("/datasets", files={"file": ("a.zip", data)}, data={"name": name}, headers=headers)
        typed = headers | {"Content-Type": "application/zip"}
        return client.post("/datasets", params={"name": name}, content=data, headers=typed)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: post(b"same", "a"), range(8)))
    assert len({reply.content for reply in replies}) == 1
    assert len(client.get("/datasets").json()["data"]) == 1
    for other in (post(b"other", "a"), post(b"same", "b")):
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len([path for path in store.blobs.root.rglob("*") if path.is_file()]) == 1


def test_a_ranking_takes_no_base_model_and_needs_no_held_out_items(client: TestClient, store: Store) -> None:
    source, other = add_dataset(store), add_dataset(store)
    method = {"name": "rank_base_models", "base_models": ["efficientnet_lite0", "timm:resnet10t"]}
    job = _post(client, source=source, method=method).json()
    assert (job["state"], job["base_model"]) == ("queued", "")
    assert client.get(f"/jobs/{job['id']}").json() == job
    assert _post(client, source=source, method={"name": "rank_base_models"}).json()["method"]["base_models"] == "all"
    _refused(_post(client, source=source, method=method, base_model="resnet18"), 422, "not_applicable", "base_model")
    _refused(_post(client, source=source, method=method, evaluation=other), 422, "not_applicable", "evaluation")
    for names, status, code in (
        (["resnet19"], 422, "unknown_base_model"),
        ([new_id("mdl")], 404, "model_not_found"),
        (["tabular_mlp"], 409, "modalities_differ"),
    ):
        asked = {"name": "rank_base_models", "base_models": names}
        _refused(_post(client, source=source, method=asked), status, code, "method.base_models")
