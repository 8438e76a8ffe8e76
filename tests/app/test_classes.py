"""Classes of few-shot models over HTTP: added from a few items, taken away, each time a new model beside the old."""

import base64
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load

from app.classes.service import agree
from app.main import create_app
from core.bundle import members
from core.contract.few_shot import HeadKind
from core.contract.models import Model, ModelManifest
from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import COLOURS, Bundle, make_bundle, put
from tests.app.conftest import neighbour
from tests.app.doors import bearer, caller, make_key, running
from tests.app.few_shot_bundles import KINDS, few_shot_bundle
from tests.app.seed import add_dataset
from tests.builders import encode

YELLOW = (230, 230, 20)


def plain(colour: tuple[int, int, int], side: int = 40) -> bytes:
    """An image of one colour."""
    return encode(np.full((side, side + 8, 3), colour, np.uint8))


def photos(*colours: tuple[int, int, int]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (f"{at}.png", plain(colour), "image/png")) for at, colour in enumerate(colours)]


def yellows(count: int = 5) -> list[tuple[str, tuple[str, bytes, str]]]:
    return photos(*((230 - at, 230 - 2 * at, 20) for at in range(count)))


def add(client: TestClient, model: str, name: str = "yellow", **more: Any) -> Any:
    return client.post(f"/models/{model}/classes", data={"name": name}, files=yellows(), **more)


def remove(client: TestClient, model: str, name: str, **more: Any) -> Any:
    return client.delete(f"/models/{model}/classes/{quote(name, safe='')}", **more)


def answers(client: TestClient, model: str, *colours: tuple[int, int, int]) -> list[dict[str, Any]]:
    reply = client.post(f"/models/{model}/predict", files=photos(*colours), params={"top_k": 9})
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["predictions"]
    return found


def label(client: TestClient, model: str, colour: tuple[int, int, int]) -> str | None:
    found: str | None = answers(client, model, colour)[0]["label"]
    return found


def error(reply: Any, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()["error"]
    assert body["code"] == code, body
    assert body["hint"]
    return body


def of_reply(reply: Any) -> dict[str, Any]:
    assert reply.status_code == 201, reply.text
    body: dict[str, Any] = reply.json()
    assert reply.headers["Location"] == f"/models/{body['id']}"
    return body


def whole(client: TestClient, model: str) -> zipfile.ZipFile:
    reply = client.get(f"/models/{model}")
    assert reply.status_code == 200
    return zipfile.ZipFile(io.BytesIO(reply.content))


def list_ids(client: TestClient) -> list[str]:
    return [found["id"] for found in client.get("/models", params={"limit": 100}).json()["data"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_is_added_and_taken_away_again(
    sqlite_client: TestClient, sqlite_store: Store, kind: HeadKind, tmp_path: Path
) -> None:
    client, bundle = sqlite_client, put(sqlite_store, few_shot_bundle(kind))
    old = bundle.model.id
    shades = [(230, 20, 20), (20, 230, 20), (20, 20, 230), (120, 80, 60), YELLOW]
    before = answers(client, old, *shades)
    made = of_reply(add(client, old))
    new = made["id"]
    assert made["classes"] == made["manifest"]["classes"] == [*COLOURS, "yellow"]
    few_shot = made["manifest"]["few_shot"]
    assert (few_shot["counts"], few_shot["revision"], few_shot["revision_of"]) == ([2, 2, 2, 5], 1, old)
    assert [(one["change"], one["name"], one["items"]) for one in few_shot["changes"]] == [("added", "yellow", 5)]
    assert made["manifest"]["lineage"] == [old, "efficientnet_lite0"]
    assert made["publication"] is None
    if kind != "relation":  # whose ratings here are random
        assert label(client, new, YELLOW) == "yellow"
        assert label(client, new, (230, 20, 20)) == "red"
    assert list_ids(client) == [new, old]
    back = of_reply(remove(client, new, "yellow"))
    assert (back["classes"], back["manifest"]["few_shot"]["counts"]) == (COLOURS, [2, 2, 2])
    assert back["manifest"]["few_shot"]["revision"] == 2
    assert back["manifest"]["lineage"] == [new, old, "efficientnet_lite0"]
    after = answers(client, back["id"], *shades)
    for one, other in zip(before, after, strict=True):
        if kind == "ridge":  # the yellow items are items of none of the classes now
            assert (one["label"] == other["label"]) or one["index"] > 2
            continue
        assert {s["label"]: s["probability"] for s in one["top"]} == pytest.approx(
            {s["label"]: s["probability"] for s in other["top"]}, abs=1e-6
        )
    assert answers(client, old, *shades) == before
    assert client.get(f"/models/{old}").content == bundle.zip


def test_the_new_bundle_is_whole(sqlite_client: TestClient, sqlite_store: Store, tmp_path: Path) -> None:
    client, bundle = sqlite_client, put(sqlite_store, few_shot_bundle())
    first = of_reply(add(client, bundle.model.id))
    made = of_reply(remove(client, first["id"], "green"))
    path = tmp_path / "m.zip"
    path.write_bytes(client.get(f"/models/{made['id']}").content)
    assert len(path.read_bytes()) == made["bytes"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(bundle.files)
        files = {name: archive.read(name) for name in archive.namelist()}
    listed = members(path)
    assert [file.model_dump(mode="json") for file in listed] == made["files"]
    for file in listed:
        assert client.get(f"/models/{made['id']}/files/{file.name}").content == files[file.name]
    manifest = ModelManifest.model_validate_json(files["manifest.json"])
    assert manifest.model_dump(mode="json") == made["manifest"]
    assert manifest.parity == bundle.model.manifest.parity
    assert manifest.metrics == bundle.model.manifest.metrics
    stored = load(files["model.safetensors"])
    assert stored["head.before.1.means"].shape == (3, 3)
    assert stored["backbone.w"].dtype == np.float16
    graph = onnx.load_from_string(files["model.onnx"])
    inside = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    assert all(np.array_equal(inside[name], part) for name, part in stored.items() if name.startswith("head."))
    card = files["README.md"].decode()
    assert card.startswith(f"# {made['id']}\n")
    assert card.count("## Classes changed without training") == 1
    assert "Added `yellow` from 5 items" in card
    assert "Took `green` away" in card


def test_json_and_a_form_say_the_same(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    items = [{"image": base64.b64encode(file[1]).decode(), "name": file[0]} for _, file in yellows()]
    by_json = of_reply(sqlite_client.post(f"/models/{model}/classes", json={"name": "yellow", "items": items}))
    by_form = of_reply(add(sqlite_client, model))
    assert by_json["id"] != by_form["id"]
    assert answers(sqlite_client, by_json["id"], YELLOW) == answers(sqlite_client, by_form["id"], YELLOW)


@pytest.mark.parametrize(
    "name", ["Greek/alpha", "Ελληνικά/άλφα", "a b?c#d 100%", "a/classes/b", "猫", "classes", "..."]
)
def test_any_name_comes_and_goes(sqlite_client: TestClient, sqlite_store: Store, name: str) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    made = of_reply(add(sqlite_client, model, name))
    assert made["classes"][-1] == name
    assert label(sqlite_client, made["id"], YELLOW) == name
    assert of_reply(remove(sqlite_client, made["id"], name))["classes"] == COLOURS


def test_a_name_is_written_in_one_way_only(sqlite_client: TestClient, sqlite_store: Store) -> None:
    """`é` as one letter or as two: as data sets do, both are the same class."""
    model = put(sqlite_store, few_shot_bundle()).model.id
    made = of_reply(add(sqlite_client, model, " cafe\u0301 "))
    assert made["classes"][-1] == "caf\u00e9"
    error(add(sqlite_client, made["id"], "cafe\u0301"), 409, "class_exists")
    assert of_reply(remove(sqlite_client, made["id"], "cafe\u0301"))["classes"] == COLOURS


def test_a_path_with_plain_slashes_names_a_class(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    made = of_reply(add(sqlite_client, model, "Greek/alpha"))
    assert of_reply(sqlite_client.delete(f"/models/{made['id']}/classes/Greek/alpha"))["classes"] == COLOURS


def test_texts(sqlite_client: TestClient, sqlite_store: Store) -> None:
    client, model = sqlite_client, put(sqlite_store, few_shot_bundle(modality="text")).model.id
    body = {"name": "neither", "items": ["long", {"text": "long long", "name": "b"}]}
    made = of_reply(client.post(f"/models/{model}/classes", json=body))
    files = [("files", ("a.txt", b"long", "text/plain"))]
    form = of_reply(client.post(f"/models/{model}/classes", data={"name": "neither"}, files=files))
    for found in (made, form):
        reply = client.post(f"/models/{found['id']}/predict", json={"items": ["long", "good", "bad"]}).json()
        assert [one["label"] for one in reply["predictions"]] == ["neither", "positive", "negative"]
    assert made["manifest"]["few_shot"]["counts"] == [2, 2, 2, 2]
    assert "tokenizer.json" in {file["name"] for file in made["files"]}
    refused = error(client.post(f"/models/{model}/classes", json=body | {"items": ["good", " "]}), 422, "unusable_item")
    assert refused["details"]["errors"][0]["code"] == "empty_text"


def test_rows(sqlite_client: TestClient, sqlite_store: Store) -> None:
    client, model = sqlite_client, put(sqlite_store, few_shot_bundle(modality="tabular")).model.id
    url = f"/models/{model}/classes"
    rows = [{"row": {"size": 250, "city": "Paris", "lift": True}}, {"row": {"size": 240, "city": None, "lift": True}}]
    made = of_reply(client.post(url, json={"name": "large", "items": rows}))
    asked = [{"row": {"size": 245, "city": "Paris", "lift": True}}, {"row": {"size": 50, "city": "Berlin"}}]
    reply = client.post(f"/models/{made['id']}/predict", json={"items": asked}).json()
    assert reply["predictions"][0]["label"] == "large"
    assert reply["predictions"][1]["label"] != "large"
    refused = error(client.post(url, json={"name": "x", "items": [{"row": {"colour": 1}}]}), 422, "unusable_item")
    assert refused["details"]["errors"][0]["code"] == "no_known_column"
    error(client.post(url, data={"name": "x"}, files=yellows()), 415, "unsupported_media_type")


def test_two_at_once_are_two_revisions(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    with ThreadPoolExecutor(6) as pool:
        made = [of_reply(one) for one in pool.map(lambda n: add(sqlite_client, model, f"new {n}"), range(6))]
    assert len({one["id"] for one in made}) == 6
    for number, one in enumerate(made):
        assert one["classes"] == [*COLOURS, f"new {number}"]
        assert one["manifest"]["few_shot"]["revision"] == 1
        assert label(sqlite_client, one["id"], YELLOW) == f"new {number}"
        assert whole(sqlite_client, one["id"]).testzip() is None


def test_the_same_request_again_gets_the_first_reply(sqlite_client: TestClient, sqlite_store: Store) -> None:
    client, model = sqlite_client, put(sqlite_store, few_shot_bundle()).model.id
    key = {"Idempotency-Key": "once"}
    first = add(client, model, headers=key)
    again = add(client, model, headers=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (of_reply(again), len(list_ids(client))) == (of_reply(first), 2)
    error(add(client, model, "other", headers=key), 422, "idempotency_key_reused")
    files = yellows(4)
    reply = client.post(f"/models/{model}/classes", data={"name": "yellow"}, files=files, headers=key)
    error(reply, 422, "idempotency_key_reused")
    gone = {"Idempotency-Key": "gone"}
    new = of_reply(first)["id"]
    replies = [remove(client, new, "yellow", headers=gone) for _ in range(2)]
    assert of_reply(replies[0]) == of_reply(replies[1])
    assert len(list_ids(client)) == 3
    # A failed request leaves the key free.
    key = {"Idempotency-Key": "free"}
    error(remove(client, new, "purple", headers=key), 404, "class_not_found")
    of_reply(remove(client, new, "yellow", headers=key))


def test_the_same_request_many_times_at_once_is_one(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: add(sqlite_client, model, headers={"Idempotency-Key": "k"}), range(5)))
    assert len({of_reply(reply)["id"] for reply in replies}) == 1
    assert len(list_ids(sqlite_client)) == 2


def test_the_first_prediction_finds_the_model_open(settings: Settings, sqlite_store: Store) -> None:
    bundle = put(sqlite_store, few_shot_bundle())
    app = create_app(settings)
    with running(app):
        client = caller(app)
        made = of_reply(add(client, bundle.model.id))
        assert app.state.predictor.sessions.keys() == [bundle.model.sha256, made["sha256"]]
        error(remove(client, made["id"], "purple"), 404, "class_not_found")
        assert len(app.state.predictor.sessions.keys()) == 2


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


def test_a_model_may_go_and_its_revision_stays(sqlite_client: TestClient, sqlite_store: Store) -> None:
    client, model = sqlite_client, put(sqlite_store, few_shot_bundle()).model.id
    new = of_reply(add(client, model))["id"]
    assert client.post(f"/models/{new}/publish").status_code == 200
    assert client.delete(f"/models/{model}").status_code == 204
    assert label(client, new, YELLOW) == "yellow"
    assert whole(client, new).testzip() is None
    error(client.delete(f"/models/{new}"), 409, "model_published")
    again = of_reply(add(client, new, "orange"))
    assert again["publication"] is None
    assert again["manifest"]["lineage"][:2] == [new, model]
    assert client.get("/models", params={"published": True}).json()["data"][0]["id"] == new
    error(add(client, model), 404, "model_not_found")


def test_a_job_may_start_from_a_revision(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    new = of_reply(add(sqlite_client, model))["id"]
    body = {"source": add_dataset(sqlite_store, per_class=6), "base_model": new, "method": {"name": "linear_probe"}}
    reply = sqlite_client.post("/jobs", json=body)
    assert reply.status_code == 201, reply.text
    assert error(sqlite_client.delete(f"/models/{new}"), 409, "model_in_use")["details"]["jobs"] == [reply.json()["id"]]
    assert sqlite_client.delete(f"/models/{model}").status_code == 204


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


def _least(bundle: Bundle, colour: tuple[int, int, int]) -> float:
    """The highest logit of an image of that colour."""
    x = (np.array(colour, np.float32) / 127.5 - 1)[None, :, None, None] * np.ones((1, 3, 4, 4), np.float32)
    return float(ort.InferenceSession(bundle.files["model.onnx"]).run(["logits"], {"image": x})[0].max())


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_may_be_none_of_the_classes(sqlite_client: TestClient, sqlite_store: Store, kind: HeadKind) -> None:
    client, bare = sqlite_client, few_shot_bundle(kind)
    logits = {colour: _least(bare, colour) for colour in ((230, 20, 20), YELLOW, (120, 120, 120), (20, 230, 20))}
    least = (min(logits.values()) + max(logits.values())) / 2
    model = put(sqlite_store, few_shot_bundle(kind, least_logit=least)).model.id
    files = [*photos(*logits), ("files", ("bad.png", b"no", "image/png"))]
    found = client.post(f"/models/{model}/predict", files=files).json()["predictions"]
    assert {one["none_of_these"] for one in found[:-1]} == {True, False}
    for one, highest in zip(found, logits.values(), strict=False):
        assert one["none_of_these"] is (highest < least)
        assert len(one["top"]) == 3
        assert (one["label"] is None) == (one["probability"] is None) == one["none_of_these"]
        assert one["error"] is None
    assert (found[-1]["error"]["code"], found[-1]["none_of_these"]) == ("unsupported_format", None)


def test_without_a_threshold_nothing_is_said_of_it(sqlite_client: TestClient, sqlite_store: Store) -> None:
    for bundle in (few_shot_bundle(), make_bundle()):
        (found,) = answers(sqlite_client, put(sqlite_store, bundle).model.id, YELLOW)
        assert found["none_of_these"] is None
        assert found["label"]


def test_a_new_class_takes_items_that_were_none(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, few_shot_bundle(least_logit=-1.0)).model.id
    assert answers(sqlite_client, model, YELLOW)[0]["none_of_these"] is True
    new = of_reply(add(sqlite_client, model))
    assert new["manifest"]["few_shot"]["least_logit"] == -1.0
    found = answers(sqlite_client, new["id"], YELLOW)[0]
    assert (found["label"], found["none_of_these"]) == ("yellow", False)


def test_the_books_hold_what_the_bundle_says(client: TestClient, store: Store) -> None:
    """On every database: the row is read back as it was replied."""
    model = put(store, few_shot_bundle()).model.id
    made = of_reply(add(client, model))
    again = client.get(f"/models/{made['id']}", headers={"Accept": "application/json"}).json()
    assert again == made
    assert json.loads(client.get(f"/models/{made['id']}/files/manifest.json").content) == made["manifest"]
    assert Model.model_validate(again).manifest.few_shot is not None


def test_what_rounding_does_to_long_vectors_is_no_damage() -> None:
    """An item that lies at a class's mean: its distance is a difference of large squares, and most of it is noise."""
    rng = np.random.default_rng(0)
    means = np.abs(rng.normal(0, 10, (20, 512))).astype(np.float32)
    apart = 0.0
    for mean in means:
        item = mean + rng.normal(0, 0.03, mean.shape).astype(np.float32)
        # As from a run of another size.
        again = item * (1 + 1e-6 * rng.normal(size=mean.shape)).astype(np.float32)
        one, other = _logits(item, means), _logits(again, means)
        apart = max(apart, float(np.abs(one - other).max()))
        assert agree(one, other)
        assert agree(item, again)
        assert not agree(one, _logits(item, means[::-1]))
    assert apart > 1e-2


def _logits(item: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Minus squared distances (C,) as a graph computes them."""
    found: np.ndarray = -np.maximum((item * item).sum() - 2 * means @ item + (means * means).sum(axis=1), 0)
    return found
