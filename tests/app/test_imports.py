"""`POST /models` and `/imports`: what is taken, what is refused at once, and what becomes of an import."""

import io
import json
import pickle
import zipfile
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save

from core.store import imports
from core.store.store import Store
from tests.app.bundles import make_bundle, put
from tests.app.conftest import neighbour

RAW = {"Content-Type": "application/octet-stream"}
WEIGHTS = save({"a": torch.zeros(4)})


def _blobs(store: Store) -> list[str]:
    return [path.name for path in store.blobs.root.glob("*/*")]


def _send(client: TestClient, data: bytes = WEIGHTS, **params: Any) -> Any:
    return client.post("/models", content=data, params=params, headers=RAW)


def test_an_upload_is_taken_and_can_be_followed(client: TestClient, store: Store) -> None:
    reply = _send(client, name="mine", base_model="resnet18", classes='["cat","dog"]', metadata='{"a":"b"}')
    assert reply.status_code == 202
    made = reply.json()
    assert reply.headers["Location"] == f"/imports/{made['id']}"
    assert (made["state"], made["name"], made["bytes"]) == ("validating", "mine", len(WEIGHTS))
    assert (made["base_model"], made["classes"], made["metadata"]) == ("resnet18", ["cat", "dog"], {"a": "b"})
    assert client.get(f"/imports/{made['id']}").json() == made
    assert client.get("/imports").json()["data"] == [made]
    assert client.get("/imports", params={"state": "ready"}).json()["data"] == []
    with store.db.write() as tx:
        claim = imports.claim_next(tx, "me", 60)
    assert claim is not None
    assert store.blob(claim.upload_sha256).read_bytes() == WEIGHTS


def test_a_form_says_the_same(client: TestClient) -> None:
    fields = {"base_model": "timm:test_resnet", "classes": '["a","b"]', "metadata": '{"k":"v"}'}
    made = client.post("/models", files={"file": ("nets/mine.safetensors", WEIGHTS)}, data=fields)
    assert made.status_code == 202
    body = made.json()
    assert (body["name"], body["base_model"], body["classes"]) == ("mine.safetensors", "timm:test_resnet", ["a", "b"])
    wrong = client.post("/models", files={"file": ("x", WEIGHTS)}, data={"seed": "1"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_field")


def test_deleting_cancels_and_leaves_no_blob(client: TestClient, store: Store) -> None:
    made = _send(client, base_model="resnet18").json()
    assert len(_blobs(store)) == 1
    assert client.delete(f"/imports/{made['id']}").status_code == 204
    assert _blobs(store) == []
    for method in ("GET", "DELETE"):
        reply = client.request(method, f"/imports/{made['id']}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "import_not_found")


def test_the_same_key_makes_one_import(client: TestClient) -> None:
    headers = RAW | {"Idempotency-Key": "k1"}
    first, second = (
        client.post("/models", content=WEIGHTS, params={"base_model": "resnet18"}, headers=headers) for _ in range(2)
    )
    assert first.json() == second.json()
    assert second.status_code == 202
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(client.get("/imports").json()["data"]) == 1


def _torch_file(*, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        _torch_file(zipped=True),
        _torch_file(zipped=True)[:-100],
        _torch_file(zipped=False),
        pickle.dumps({"a": 1}),
        b"GGUF" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        make_bundle().files["model.onnx"],
        _npz(),
        b"hello",
    ],
    ids=["pt", "pt cut off", "old pt", "pickle", "gguf", "hdf5", "onnx", "npz", "text"],
)
def test_other_formats_are_refused_with_the_way_to_convert(
    sqlite_client: TestClient, settings: Any, data: bytes
) -> None:
    reply = _send(sqlite_client, data, base_model="resnet18")
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_weights")
    assert "save_file" in reply.json()["error"]["hint"]
    assert not [path for path in (settings.root / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({}, "missing_field", "base_model"),
        ({"base_model": "resnet19"}, "unknown_base_model", "base_model"),
        ({"base_model": "timm:../../x"}, "unknown_base_model", "base_model"),
        ({"base_model": "hf:bert-base-uncased"}, "unknown_base_model", "base_model"),
        ({"base_model": "minilm_l6"}, "import_unsupported", "base_model"),
        ({"base_model": "resnet18", "classes": '["a", 2]'}, "wrong_type", "classes"),
        ({"base_model": "resnet18", "classes": '["a"]'}, "invalid_classes", "classes"),
        ({"base_model": "resnet18", "classes": '["a","a"]'}, "invalid_classes", "classes"),
        (
            {"base_model": "resnet18", "classes": json.dumps(list(map(str, range(2001))))},
            "invalid_classes",
            "classes",
        ),
    ],
)
def test_what_is_said_beside_it_is_checked_at_once(
    sqlite_client: TestClient, params: dict[str, str], code: str, param: str
) -> None:
    error = _send(sqlite_client, **params).json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["hint"]


def test_a_bundle_needs_no_words(sqlite_client: TestClient) -> None:
    bundle = make_bundle().zip
    assert _send(sqlite_client, bundle).status_code == 202
    for name, value in (("base_model", "resnet18"), ("classes", '["a","b"]')):
        error = _send(sqlite_client, bundle, **{name: value}).json()["error"]
        assert (error["code"], error["param"]) == ("not_for_bundles", name)


def test_a_model_without_a_head_says_how_to_get_one(sqlite_client: TestClient, sqlite_store: Store) -> None:
    made = make_bundle()
    manifest = made.model.manifest.model_copy(update={"classes": []})
    model = made.model.model_copy(update={"classes": [], "manifest": manifest})
    put(sqlite_store, type(made)(model, made.zip, made.files))
    reply = sqlite_client.post(f"/models/{model.id}/predict", files={"files": ("x.png", b"x")})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "model_has_no_head")
    assert model.id in reply.json()["error"]["hint"]


def test_an_upload_over_the_quota_is_refused(settings: Any, sqlite_store: Store) -> None:
    small = settings.model_copy(update={"quota_bytes": 10})
    with neighbour(small) as client:
        reply = _send(client, base_model="resnet18")
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "storage_quota_exceeded")
    assert _blobs(sqlite_store) == []
