"""Data sets over HTTP: lists, reports, samples, deletion."""

import io
import threading

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from core.contract.errors import GraftError
from core.contract.jobs import JobSpec
from core.store import datasets
from core.store.store import Store
from tests.app.bundles import make_bundle, put
from tests.app.seed import OTHER, add_dataset, add_job


def test_lists_are_paged_filtered_and_newest_first(client: TestClient, store: Store) -> None:
    rejected = add_dataset(store, state="rejected")
    ready = [add_dataset(store) for _ in range(3)]
    add_dataset(store, tenant=OTHER)
    seen, cursor = [], None
    while True:
        page = client.get("/datasets", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        if not cursor:
            break
    assert seen == [*reversed(ready), rejected]
    filtered = client.get("/datasets", params={"state": "rejected"}).json()["data"]
    assert [one["id"] for one in filtered] == [rejected]
    assert client.get("/datasets?state=redy").json()["error"]["hint"].startswith("Did you mean `ready`?")


def test_the_report_is_there_once_the_data_set_was_looked_at(client: TestClient, store: Store) -> None:
    ready, rejected, new = (add_dataset(store, state=state) for state in ("ready", "rejected", "validating"))
    assert client.get(f"/datasets/{ready}/report").json()["items"] == 6
    waiting = client.get(f"/datasets/{new}/report")
    assert (waiting.status_code, waiting.json()["error"]["code"]) == (409, "report_not_ready")
    none = client.get(f"/datasets/{rejected}/report")
    assert (none.status_code, none.json()["error"]["code"]) == (409, "report_not_available")
    assert client.get(f"/datasets/{rejected}").json()["error"]["code"] == "not_an_archive"


def test_samples_can_be_listed_filtered_and_looked_at(client: TestClient, store: Store) -> None:
    dataset = add_dataset(store, classes=("cat", "dog", "owl"), per_class=4)
    url = f"/datasets/{dataset}/samples"
    first = client.get(url, params={"limit": 5}).json()
    rest = client.get(url, params={"limit": 100, "cursor": first["next_cursor"]}).json()
    assert [one["index"] for one in first["data"] + rest["data"]] == list(range(12))
    owls = client.get(url, params={"label": "owl", "split": "train"}).json()["data"]
    assert [one["index"] for one in owls] == [2, 5, 8]
    assert {(one["label"], one["split"]) for one in owls} == {("owl", "train")}
    picture = client.get(owls[0]["url"], params={"size": 16})
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (16, 16)
    wrong = client.get(url, params={"label": "owls"}).json()["error"]
    assert (wrong["code"], wrong["param"]) == ("unknown_label", "label")
    assert "`owl`" in wrong["hint"]
    for index in ("12", "-1", "x", "99999999999999999999"):
        gone = client.get(f"{url}/{index}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "sample_not_found")
    assert client.get(url, params={"cursor": "ds_1"}).json()["error"]["code"] == "invalid_cursor"
    new = add_dataset(store, state="validating")
    assert client.get(f"/datasets/{new}/samples").json()["error"]["code"] == "dataset_not_ready"


def test_a_damaged_blob_is_never_shown(client: TestClient, store: Store) -> None:
    dataset = add_dataset(store)
    with store.db.read() as tx:
        blobs = datasets.blobs(tx, "default", dataset)
    assert blobs is not None
    store.blob(blobs.content_sha256).write_bytes(b"x" * 100_000)
    reply = client.get(f"/datasets/{dataset}/samples/0")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "corrupt_blob")


def test_a_data_set_in_use_is_kept(client: TestClient, store: Store) -> None:
    dataset = add_dataset(store)
    job = add_job(store, dataset)
    reply = client.delete(f"/datasets/{dataset}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "dataset_in_use")
    assert reply.json()["error"]["details"]["jobs"] == [job]
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    assert not [path for path in store.blobs.root.rglob("*") if path.is_file()]


def test_a_blob_that_a_model_names_survives_the_data_set(client: TestClient, store: Store) -> None:
    bundle = put(store, make_bundle())
    made = client.post("/datasets", content=bundle.zip, headers={"Content-Type": "application/zip"}).json()
    assert made["sha256"] == bundle.model.sha256
    assert client.delete(f"/datasets/{made['id']}").status_code == 204
    assert store.blobs.exists(bundle.model.sha256)


@pytest.mark.parametrize("_", range(3))
def test_a_job_and_a_deletion_at_once_leave_no_job_without_data(client: TestClient, store: Store, _: int) -> None:
    dataset = add_dataset(store)
    start = threading.Barrier(2)
    replies = {}

    def call(name: str) -> None:
        start.wait()
        if name == "post":
            replies[name] = client.post("/jobs", json=JobSpec(source=dataset).model_dump(mode="json"))
        else:
            replies[name] = client.delete(f"/datasets/{dataset}")

    threads = [threading.Thread(target=call, args=(name,)) for name in ("post", "delete")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome = (replies["post"].status_code, replies["delete"].status_code)
    assert outcome in ((201, 409), (404, 204))


def test_holding_a_data_set_needs_it(store: Store) -> None:
    with pytest.raises(GraftError, match="no data set"), store.db.write() as tx:
        datasets.hold(tx, "default", "ds_" + "0" * 26)
