"""Tables over HTTP: how they are to be read, and what is seen of texts and rows."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.contract.datasets import Reading
from core.modality.ingest import ingest
from core.settings import Settings
from core.store import datasets
from core.store.store import Store
from tests.app.tus import b64, begin, patch

TEXTS = "text,label\n" + "".join(f"this is the review of customer {n},{'ab'[n % 2]}\n" for n in range(20))
ROWS = "size,colour,price\n" + "".join(f"{n * 3},{'red' if n % 3 else 'blue'},{n * 1.5}\n" for n in range(40))
LABELS = "text,tags\n" + "".join(f"this is the review of customer {n},{'a|b' if n % 2 else 'b'}\n" for n in range(20))


def create(client: TestClient, data: str, **said: str) -> dict[str, Any]:
    reply = client.post("/datasets", content=data.encode(), params=said, headers={"Content-Type": "text/csv"})
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def make_ready(store: Store, tmp_path: Path, data: str) -> None:
    """What a worker does with the one data set that waits."""
    with store.db.write() as tx:
        claim = datasets.claim_next(tx, "worker", 60)
    assert claim is not None
    upload = store.blob(claim.upload_sha256)
    found = ingest(
        upload, claim.upload_sha256, limits=Settings(), seed=claim.seed, scratch=tmp_path, reading=claim.reading
    )
    with store.db.write(blobs=True) as tx:
        assert found.content is not None
        store.blobs.adopt(found.content, found.manifest.content_sha256)
        sha256 = store.blobs.put(found.manifest.model_dump_json().encode())
        datasets.mark_ready(tx, claim.fence, found.manifest, sha256, found.report)


def test_how_a_table_is_to_be_read(client: TestClient, store: Store) -> None:
    said = {"modality": "tabular", "problem": "regression", "target": "price", "split": "part"}
    whole = {"modality": None, "problem": None, "target": None, "text": None, "split": None}
    raw = create(client, ROWS, **said)
    assert raw["reading"] == whole | said
    form = client.post(
        "/datasets", params={"target": "x"}, files={"file": ("a.csv", b"a,b\n1,2\n")}, data={"text": "a"}
    )
    assert form.json()["reading"] == whole | {"target": "x", "text": "a"}
    assert client.get(f"/datasets/{form.json()['id']}").json() == form.json()
    with store.db.write() as tx:
        claims = [datasets.claim_next(tx, "worker", 60) for _ in range(2)]
    assert {claim.reading for claim in claims if claim} == {Reading(**said), Reading(target="x", text="a")}
    wrong = client.post("/datasets?problem=regresion", content=b"x", headers={"Content-Type": "text/csv"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "problem")
    nul = client.post("/datasets", params={"target": "a\0"}, content=b"x", headers={"Content-Type": "text/csv"})
    assert nul.status_code == 422


def test_a_resumable_upload_is_read_as_it_says(client: TestClient, store: Store) -> None:
    data = TEXTS.encode()
    header = f"filename {b64('reviews.csv')},target {b64('label')},modality {b64('text')}"
    path = begin(client, len(data), Upload_Metadata=header)
    dataset = patch(client, path, 0, data).headers["Graft-Dataset"]
    assert client.get(f"/datasets/{dataset}").json()["reading"]["target"] == "label"
    assert client.get(f"/datasets/{dataset}").json()["reading"]["modality"] == "text"


@pytest.mark.parametrize("said", [{}, {"target": "label"}])
def test_another_reading_is_another_data_set(
    client: TestClient, store: Store, tmp_path: Path, said: dict[str, str]
) -> None:
    create(client, TEXTS, **said)
    make_ready(store, tmp_path, TEXTS)
    sha256 = hashlib.sha256(TEXTS.encode()).hexdigest()
    with store.db.read() as tx:
        assert datasets.twin(tx, sha256, 0, Reading(**said)) is not None
        assert datasets.twin(tx, sha256, 0, Reading(target="text")) is None
        assert datasets.twin(tx, sha256, 1, Reading(**said)) is None


def test_texts_and_rows_can_be_looked_at(client: TestClient, store: Store, tmp_path: Path) -> None:
    texts = create(client, TEXTS)["id"]
    make_ready(store, tmp_path, TEXTS)
    rows = create(client, ROWS)["id"]
    make_ready(store, tmp_path, ROWS)
    ready = client.get(f"/datasets/{texts}").json()
    assert (ready["modality"], ready["problem"], ready["classes"]) == ("text", "classification", ["a", "b"])
    first = client.get(f"/datasets/{texts}/samples").json()["data"][0]
    assert (first["text"], first["label"], first["row"]) == ("this is the review of customer 0", "a", None)
    text = client.get(first["url"])
    assert (text.headers["content-type"], text.text) == ("text/plain; charset=utf-8", first["text"])
    second = client.get(f"/datasets/{rows}/samples").json()["data"][1]
    assert (second["row"], second["value"], second["label"]) == ({"size": 3, "colour": "red"}, 1.5, None)
    assert client.get(second["url"]).json() == second["row"]
    assert client.get(f"/datasets/{rows}").json()["problem"] == "regression"
    report = client.get(f"/datasets/{rows}/report").json()
    assert [(column["name"], column["kind"]) for column in report["columns"]] == [
        ("size", "number"),
        ("colour", "category"),
    ]


def test_samples_of_one_of_several_labels(client: TestClient, store: Store, tmp_path: Path) -> None:
    made = create(client, LABELS)["id"]
    make_ready(store, tmp_path, LABELS)
    found = client.get(f"/datasets/{made}/samples", params={"label": "a", "limit": 100}).json()["data"]
    assert len(found) == 10
    assert {tuple(one["labels"]) for one in found} == {("a", "b")}
