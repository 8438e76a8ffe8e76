"""Predictions of texts over HTTP: forms, errors per item, order, several labels, tokenizers that are damaged."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.predictions import batches
from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import Bundle, make_bundle, one_model, put
from tests.app.conftest import neighbour
from tests.app.modal_bundles import CLASSES, MEANING, WORDS, text_bundle

TEXT = {"Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    with one_model(tmp_path_factory.mktemp("shared"), text_bundle()) as (client, bundle):
        yield client, url_of(bundle)


def url_of(bundle: Bundle) -> str:
    return f"/models/{bundle.model.id}/predict"


def by_hand(text: str) -> float:
    """Probability of the first class."""
    known = [MEANING[WORDS.get(word, 1)] for word in text.split()][:8]
    first, second = np.mean(known, axis=0)
    return float(1 / (1 + np.exp(second - first)))


def error(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()["error"]
    return body


def test_every_form_one_answer(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    text = "good good bad"
    replies = [
        client.post(url, json={"items": [{"text": text, "name": "a"}]}),
        client.post(url, json={"items": [text]}),
        client.post(url, content=text, headers=TEXT),
        client.post(url, content=text, headers={"Content-Type": "text/plain; charset=utf-8"}),
        client.post(url, files={"files": ("a.txt", text, "text/plain")}),
    ]
    answers = [reply.json()["predictions"][0] for reply in replies]
    assert [answer["name"] for answer in answers] == ["a", None, None, None, "a.txt"]
    assert {answer["label"] for answer in answers} == {"positive"}
    for answer in answers:
        assert answer["probability"] == pytest.approx(by_hand(text), abs=1e-6)
        assert sum(score["probability"] for score in answer["top"]) == pytest.approx(1)
        assert (answer["labels"], answer["value"], answer["warnings"], answer["error"]) == (None, None, [], None)


def test_answers_keep_their_order_though_texts_run_by_length(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["good", "bad", "long", "other"], rng.integers(1, 12))) for _ in range(100)]
    predictions = client.post(url, json={"items": texts, "top_k": 2}).json()["predictions"]
    assert [one["index"] for one in predictions] == list(range(100))
    shown = [{score["label"]: score["probability"] for score in one["top"]}["positive"] for one in predictions]
    assert shown == pytest.approx([by_hand(text) for text in texts], abs=1e-6)


def test_texts_of_one_length_run_together() -> None:
    arrays = [(np.zeros(length, np.int64),) for length in (3, 4000, 3, 9, 8, 3000)]
    assert list(batches.runs(arrays, "text")) == [[1], [5], [3, 4, 0, 2]]
    assert list(batches.runs(arrays, "image")) == [[0, 1, 2, 3], [4, 5]]
    assert list(batches.runs([], "tabular")) == []


def test_one_bad_text_fails_alone(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    parts = [b"good", b"\xff\xfe", b"", b" \n", b"bad"]
    reply = client.post(url, files=[("files", (f"{i}.txt", part)) for i, part in enumerate(parts)])
    predictions = reply.json()["predictions"]
    assert [one["label"] for one in predictions] == ["positive", None, None, None, "negative"]
    codes = [one["error"] and one["error"]["code"] for one in predictions]
    assert codes == [None, "not_utf8", "empty_text", "empty_text", None]
    assert all(one["error"]["hint"] for one in predictions[1:4])


def test_a_text_may_hold_commas_and_brackets_without_end(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    reply = client.post(url, json={"items": ["good " + ',[{"\\' * 100_000]})
    assert reply.json()["predictions"][0]["label"] == "positive"


@pytest.mark.parametrize(
    ("call", "status", "code", "param"),
    [
        ({"json": {"items": [{"image": "abc"}]}}, 422, "wrong_modality", "items.0.image"),
        ({"json": {"items": [{"row": {"a": 1}}]}}, 422, "wrong_modality", "items.0.row"),
        ({"json": {"items": ["good", 3]}}, 422, "invalid_value", "items.1"),
        ({"json": {"items": [{"text": 3}]}}, 422, "invalid_value", "items.0.text"),
        ({"json": {"items": [{"txt": "good"}]}}, 422, "missing_field", "items.0.text"),
        ({"json": {"texts": ["good"]}}, 422, "missing_field", "items"),
        ({"json": ["good"]}, 422, "invalid_value", "body"),
        ({"json": {"items": "good"}}, 422, "invalid_value", "items"),
        ({"json": {"items": [[]] * 30_000}}, 422, "invalid_value", "items.0"),
        ({"json": {"items": [[]] * 100_000}}, 422, "too_many_items", "items"),
        ({"json": {"items": ["good"] * 300}}, 422, "too_many_items", "items"),
        ({"content": b"", "headers": TEXT}, 422, "empty_body", None),
        ({"content": b"x", "headers": {"Content-Type": "image/png"}}, 415, None, None),
        ({"content": b"x", "headers": {"Content-Type": "text/csv"}}, 415, None, None),
        ({"content": b"x", "headers": {"Content-Type": "application/octet-stream"}}, 415, None, None),
    ],
)
def test_a_wrong_body_is_told_what_the_model_takes(
    shared: tuple[TestClient, str], call: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    client, url = shared
    body = error(client.post(url, **call), status)
    assert code in (None, body["code"])
    assert body["param"] == param
    if body["code"] != "too_many_items":
        assert "takes texts" in body["message"] + body["hint"]
        assert '{"items": ["' in body["hint"]


def test_a_model_of_images_says_that_it_takes_no_texts(sqlite_client: TestClient, sqlite_store: Store) -> None:
    url = url_of(put(sqlite_store, make_bundle()))
    body = error(sqlite_client.post(url, json={"items": [{"text": "good"}]}), 422)
    assert (body["code"], body["param"]) == ("wrong_modality", "items.0.text")
    assert "takes images, not texts" in body["message"]
    assert "base64" in body["hint"]


def test_several_labels_have_probabilities_of_their_own(sqlite_client: TestClient, sqlite_store: Store) -> None:
    url = url_of(put(sqlite_store, text_bundle("multi_label")))
    both, none, one = sqlite_client.post(url, json={"items": ["good bad", "long", "bad"]}).json()["predictions"]
    assert (both["labels"], none["labels"], one["labels"]) == (CLASSES, [], ["negative"])
    assert (one["label"], one["probability"], one["value"]) == (None, None, None)
    assert [(score["label"], round(score["probability"], 4)) for score in one["top"]] == [
        ("negative", round(1 / (1 + np.exp(-4)), 4)),
        ("positive", 0.5),
    ]


def test_limits_hold_for_texts_too(settings: Settings, sqlite_store: Store) -> None:
    url = url_of(put(sqlite_store, text_bundle()))
    tight = settings.model_copy(update={"max_predict_items": 2, "max_predict_bytes": 1000})
    with neighbour(tight) as client:
        assert error(client.post(url, json={"items": ["a", "b", "c"]}), 422)["details"] == {"limit_items": 2}
        assert error(client.post(url, json={"items": ["a" * 2000]}), 413)["details"] == {"limit_bytes": 1000}
        assert client.post(url, json={"items": ["a", "b"]}).status_code == 200


def test_a_damaged_tokenizer_says_so(sqlite_client: TestClient, sqlite_store: Store) -> None:
    for tokenizer in (b"{}", b"\xff"):
        url = url_of(put(sqlite_store, text_bundle(with_tokenizer=tokenizer)))
        assert error(sqlite_client.post(url, json={"items": ["good"]}), 500)["code"] == "corrupt_blob"
    bare = text_bundle()
    files = [file for file in bare.model.files if file.name != "tokenizer.json"]
    bare = put(sqlite_store, Bundle(bare.model.model_copy(update={"files": files}), bare.zip, bare.files))
    assert error(sqlite_client.post(url_of(bare), json={"items": ["good"]}), 500)["code"] == "corrupt_blob"
