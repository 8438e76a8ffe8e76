"""Classes of few-shot models over HTTP: added from a few items, taken away, each time a new model beside the old."""

import base64
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load

from app.main import create_app
from core.bundle import members
from core.contract.few_shot import HeadKind
from core.contract.models import Model, ModelManifest
from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import COLOURS, put
from tests.app.doors import caller, running
from tests.app.few_shot_bundles import KINDS, few_shot_bundle
from tests.app.few_shot_doors import (
    YELLOW,
    add,
    answers,
    error,
    label,
    list_ids,
    of_reply,
    remove,
    whole,
    yellows,
)
from tests.app.seed import add_dataset


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


def test_the_books_hold_what_the_bundle_says(client: TestClient, store: Store) -> None:
    """On every database: the row is read back as it was replied."""
    model = put(store, few_shot_bundle()).model.id
    made = of_reply(add(client, model))
    again = client.get(f"/models/{made['id']}", headers={"Accept": "application/json"}).json()
    assert again == made
    assert json.loads(client.get(f"/models/{made['id']}/files/manifest.json").content) == made["manifest"]
    assert Model.model_validate(again).manifest.few_shot is not None
