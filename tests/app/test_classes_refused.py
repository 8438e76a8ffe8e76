"""Changes of classes that are refused: by their items, their form, the model, and who asks; nothing is left of them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import make_bundle, put
from tests.app.conftest import neighbour
from tests.app.doors import bearer, caller, make_key, running
from tests.app.few_shot_bundles import few_shot_bundle
from tests.app.few_shot_doors import YELLOW, add, error, list_ids, of_reply, plain, remove, yellows


def test_a_bad_item_adds_nothing(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    url = f"/models/{model}/classes"
    files = [*yellows(2), ("files", ("bad.png", b"no image", "image/png")), ("files", ("empty.png", b"", "image/png"))]
    told = error(sqlite_client.post(url, data={"name": "x"}, files=files), 422, "unusable_item")
    assert told["param"] == "items.2"
    assert "Item 2 (bad.png)" in told["message"]
    assert [(one["index"], one["name"]) for one in told["details"]["errors"]] == [(2, "bad.png"), (3, "empty.png")]
    told = error(sqlite_client.post(url, json={"name": "x", "items": [{"image": "???"}]}), 422, "unusable_item")
    assert told["details"]["errors"][0]["code"] == "invalid_base64"
    assert list_ids(sqlite_client) == [model]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"image": "eA=="}]}, "name"),
        ({"name": "", "items": [{"image": "eA=="}]}, "name"),
        ({"name": "   ", "items": [{"image": "eA=="}]}, "name"),
        ({"name": "x" * 1025, "items": [{"image": "eA=="}]}, "name"),
        ({"name": "a\nb", "items": [{"image": "eA=="}]}, "name"),
        ({"name": "a/../b", "items": [{"image": "eA=="}]}, "name"),
        ({"name": "a//b", "items": [{"image": "eA=="}]}, "name"),
        ({"name": "/", "items": [{"image": "eA=="}]}, "name"),
        ({"name": 5, "items": [{"image": "eA=="}]}, "name"),
        ({"name": "x"}, "items"),
        ({"name": "x", "items": []}, "items"),
        ({"name": "x", "items": [{"text": "y"}]}, "items.0.text"),
        ({"name": "x", "items": [{"image": "eA=="}], "top_k": 3}, "top_k"),
    ],
)
def test_a_wrong_body_is_told_by_its_field(
    sqlite_client: TestClient, sqlite_store: Store, body: dict[str, Any], param: str
) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    reply = sqlite_client.post(f"/models/{model}/classes", json=body)
    assert reply.status_code == 422, reply.text
    told = reply.json()["error"]
    assert told["param"] in (param, f"body.{param}")
    assert told["hint"]


def test_a_wrong_form_is_told_by_its_part(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    url = f"/models/{model}/classes"
    for data, files, param in (
        ({}, yellows(1), "name"),
        ({"name": " "}, yellows(1), "name"),
        ({"name": "x" * 1025}, yellows(1), "name"),
        ({"name": "x"}, [("file", ("a.png", b"x", "image/png"))], "file"),
        ({"name": "x", "files": "text"}, [], "files"),
    ):
        reply = sqlite_client.post(url, data=data, files=files or {"a": b""})
        assert reply.status_code == 422, reply.text
        assert reply.json()["error"]["param"] in (param, "a"), reply.text
    none = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert error(sqlite_client.post(url, content=none, headers=form), 422, "missing_field")["param"] == "files"
    error(
        sqlite_client.post(url, content=plain(YELLOW), headers={"Content-Type": "image/png"}),
        415,
        "unsupported_media_type",
    )
    error(sqlite_client.post(url, content=b"{", headers={"Content-Type": "application/json"}), 400, "invalid_json")
    error(sqlite_client.post(f"{url}?name=x", json={}), 422, "unknown_field")


def test_what_is_no_few_shot_model_says_how_to_get_one(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, make_bundle()).model.id
    for reply in (add(sqlite_client, model), remove(sqlite_client, model, "red")):
        told = error(reply, 409, "model_has_no_few_shot_head")
        assert "simple_shot" in told["hint"]


def test_conflicts(settings: Settings, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    with neighbour(settings.model_copy(update={"max_classes": 4})) as client:
        assert error(add(client, model, "red"), 409, "class_exists")["param"] == "name"
        assert "`green`" in error(remove(client, model, "gren"), 404, "class_not_found")["hint"]
        full = of_reply(add(client, model))["id"]
        assert error(add(client, full, "more"), 409, "too_many_classes")["details"]["limit"] == 4
        two = of_reply(remove(client, model, "red"))["id"]
        told = error(remove(client, two, "blue"), 409, "too_few_classes")
        assert told["details"]["classes"] == ["green", "blue"]
        error(add(client, "mdl_" + "0" * 26), 404, "model_not_found")


def test_quota_and_sizes(settings: Settings, sqlite_store: Store) -> None:
    bundle = put(sqlite_store, few_shot_bundle())
    limits = {"quota_bytes": bundle.model.bytes + 100, "max_predict_items": 3, "max_predict_bytes": 20_000}
    with neighbour(settings.model_copy(update=limits)) as client:
        url, data = f"/models/{bundle.model.id}/classes", {"name": "yellow"}
        error(client.post(url, data=data, files=yellows(3)), 413, "storage_quota_exceeded")
        error(client.post(url, data=data, files=yellows(4)), 422, "too_many_items")
        error(client.post(url, data=data, files=[("files", ("a.png", b"x" * 30_000, "image/png"))]), 413, "too_large")
        assert list_ids(client) == [bundle.model.id]
        assert client.get("/readyz").status_code in (200, 503)
    assert sum(1 for path in sqlite_store.blobs.root.rglob("*") if path.is_file()) == 1


def test_who_may_and_whose_model_it_is(settings: Settings, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle(), "a").model.id
    reader, writer = (make_key(sqlite_store, "a", scope) for scope in ("read", "write"))  # type: ignore[arg-type]
    stranger = make_key(sqlite_store, "b", "write")
    app = create_app(settings)
    with running(app):
        client = caller(app)
        for key, code in ((reader, 403), (stranger, 404)):
            assert add(client, model, headers=bearer(key)).status_code == code
            assert remove(client, model, "red", headers=bearer(key)).status_code == code
        made = of_reply(add(client, model, headers=bearer(writer)))["id"]
        assert client.get(f"/models/{made}", headers=bearer(stranger)).status_code == 404
        assert client.get("/models", headers=bearer(stranger)).json()["data"] == []


def test_a_damaged_model_is_not_built_upon(sqlite_client: TestClient, sqlite_store: Store) -> None:
    bundle = put(sqlite_store, few_shot_bundle())
    path = sqlite_store.blob(bundle.model.sha256)
    content = bytearray(path.read_bytes())
    tensors = next(file for file in bundle.model.files if file.name == "model.safetensors")
    content[tensors.offset + tensors.bytes - 1] ^= 1
    path.write_bytes(content)
    error(add(sqlite_client, bundle.model.id), 500, "corrupt_blob")
    assert list_ids(sqlite_client) == [bundle.model.id]


def test_a_head_that_is_not_what_it_says_is_not_built_upon(sqlite_client: TestClient, sqlite_store: Store) -> None:
    """The manifest says `items`, the tensors are class means: nothing is entered, no session stays."""
    few_shot = few_shot_bundle("items").model.manifest.few_shot
    bundle = put(sqlite_store, few_shot_bundle("class_means", few_shot=few_shot))
    error(add(sqlite_client, bundle.model.id), 500, "corrupt_blob")
    assert list_ids(sqlite_client) == [bundle.model.id]
