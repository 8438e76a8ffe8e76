"""Predictions of rows over HTTP: forms, what is doubtful about a row, numbers with their interval, limits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import Bundle, one_model, put
from tests.app.conftest import neighbour
from tests.app.modal_bundles import rows_bundle

CSV = {"Content-Type": "text/csv"}
LINES = {"Content-Type": "application/x-ndjson"}
ROW = {"size": 150, "lift": True, "city": "Rome"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    with one_model(tmp_path_factory.mktemp("shared"), rows_bundle("regression")) as (client, bundle):
        yield client, url_of(bundle)


def url_of(bundle: Bundle) -> str:
    return f"/models/{bundle.model.id}/predict"


def by_hand(size: float | None, city: int) -> float:
    z = 0.0 if size is None else (size - 100) / 50
    return 100 * float(z / (1 + (z / 3) ** 2) ** 0.5) + 1000 * city


def error(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()["error"]
    return body


def predictions(reply: Any) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["predictions"]
    return found


def test_every_form_one_answer(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    replies = [
        client.post(url, json={"items": [{"row": ROW, "name": "a"}]}),
        client.post(url, json={"items": [{"row": {"size": "150", "lift": "yes", "city": " Rome "}}]}),
        client.post(url, content="size,lift,city\n150,true,Rome\n", headers=CSV),
        client.post(url, content="\ufeffcity;size;lift;price\r\nRome;150,0;1;9\r\n", headers=CSV),
        client.post(
            url, content='city\tsize\tlift\n"Rome"\t150\t1', headers={"Content-Type": "text/csv; charset=utf-8"}
        ),
        client.post(url, content=json.dumps(ROW) + "\n\n", headers=LINES),
    ]
    answers = [predictions(reply)[0] for reply in replies]
    assert [answer["name"] for answer in answers] == ["a", *[None] * 5]
    for answer in answers:
        assert answer["value"] == pytest.approx(by_hand(150, 2), rel=1e-6)
        assert answer["high"] - answer["value"] == pytest.approx(12.5)
        assert answer["value"] - answer["low"] == pytest.approx(12.5)
        assert (answer["label"], answer["top"], answer["warnings"], answer["error"]) == (None, [], [], None)


def test_thousands_of_rows_in_their_order(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    table = "size,lift,city\n" + "".join(f"{size},0,Berlin\n" for size in range(2500))
    answers = predictions(client.post(url, content=table, headers=CSV))
    assert [answer["index"] for answer in answers] == list(range(2500))
    assert [answer["value"] for answer in answers] == pytest.approx([by_hand(i, 1) for i in range(2500)], rel=1e-5)


def test_what_is_doubtful_about_a_row_is_said(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    rows: list[dict[str, Any]] = [
        {"size": 150, "lift": 1, "town": "Rome", "note": "left out of the training", "price": 3},
        {"size": "huge", "lift": None, "city": "Paris"},
        {"size": "n/a", "lift": "", "city": None},
        {f"c{i}": i for i in range(30)} | ROW,
    ]
    town, huge, nothing, wide = predictions(client.post(url, json={"items": [{"row": row} for row in rows]}))
    assert len(town["warnings"]) == 2
    assert "not there" in town["warnings"][0]
    assert town["warnings"][0].endswith(": city.")
    assert town["warnings"][1].endswith(": town.")
    assert len(huge["warnings"]) == 1
    assert "size = 'huge', city = 'Paris'" in huge["warnings"][0]
    assert nothing["warnings"] == []
    assert huge["value"] == nothing["value"] == pytest.approx(by_hand(None, 0))
    assert "c9 and 20 more" in wide["warnings"][0]


def test_a_misspelt_column_is_told_the_nearest(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    answer = predictions(client.post(url, content="Size_,lift,city\n1,1,Rome\n", headers=CSV))[0]
    assert "Size_ (did you mean size?)" in answer["warnings"][1]


def test_one_bad_row_fails_alone(shared: tuple[TestClient, str]) -> None:
    client, url = shared
    table = 'size,lift,city\n150,1,Rome\n150,1\n150,"a"b,Rome\n150,1,Rome,,\n150,1,Rome,x\n\n150,1,Rome\n'
    answers = predictions(client.post(url, content=table, headers=CSV))
    codes = [answer["error"] and answer["error"]["code"] for answer in answers]
    assert codes == [None, "ragged_row", "bad_row", None, "ragged_row", None]
    lines = [json.dumps(ROW), "{", "[1]", '{"size": [1]}', '{"a": 1}', "{}", "[" * 5000, json.dumps(ROW)]
    answers = predictions(client.post(url, content="\n".join(lines), headers=LINES))
    codes = [answer["error"] and answer["error"]["code"] for answer in answers]
    assert codes == [None, *["bad_row"] * 3, *["no_known_column"] * 2, "bad_row", None]
    assert all(answer["error"]["hint"] for answer in answers if answer["error"])


@pytest.mark.parametrize(
    ("call", "status", "code", "param"),
    [
        ({"json": {"items": [{"text": "good"}]}}, 422, "wrong_modality", "items.0.text"),
        ({"json": {"items": [{"image": "abc"}]}}, 422, "wrong_modality", "items.0.image"),
        ({"json": {"items": [ROW]}}, 422, "missing_field", "items.0.row"),
        ({"json": {"items": [{"row": [1]}]}}, 422, "invalid_value", "items.0.row"),
        ({"json": {"items": [{"row": {"size": [1]}}]}}, 422, "invalid_value", "items.0.row.size"),
        ({"json": {"items": ["good"]}}, 422, "invalid_value", "items.0"),
        ({"content": b"", "headers": CSV}, 422, "empty_body", None),
        ({"content": b"\n\n", "headers": CSV}, 422, "empty_body", None),
        ({"content": b"\n", "headers": LINES}, 422, "empty_body", None),
        ({"content": b"size,lift\n", "headers": CSV}, 422, "no_rows", None),
        ({"content": b"size,size\n1,2\n", "headers": CSV}, 422, "repeated_column", None),
        ({"content": b"size\n\xff\n", "headers": CSV}, 422, "not_utf8", None),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, None, None),
        ({"files": {"files": ("a.csv", "size\n1\n", "text/csv")}}, 415, None, None),
    ],
)
def test_a_wrong_body_is_told_what_the_model_takes(
    shared: tuple[TestClient, str], call: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    client, url = shared
    body = error(client.post(url, **call), status)
    assert code in (None, body["code"])
    assert body["param"] == param
    if code != "not_utf8":
        assert '{"row": {"column": 1.5}' in body["hint"]


@pytest.mark.parametrize(
    "call",
    [
        {"content": b"size\n" + b"1\n" * 11, "headers": CSV},
        {"content": b'{"size": 1}\n' * 11, "headers": LINES},
        {"json": {"items": [{"row": {"size": 1}}] * 11}},
        {"content": b"," * 3_000_000, "headers": CSV},
        {"content": b'{"a": [' + b"1," * 600_000 + b"1]}", "headers": LINES},
        {
            "content": b'{"items": [{"row": {"a": [' + b"1," * 600_000 + b"1]}}]}",
            "headers": {"Content-Type": "application/json"},
        },
        {"content": b",".join(b"c%d" % i for i in range(60_000)) + b"\n" + (b"," * 59_999 + b"\n") * 9, "headers": CSV},
    ],
    ids=range(7),
)
def test_too_much_is_refused(settings: Settings, sqlite_store: Store, call: dict[str, Any]) -> None:
    url = url_of(put(sqlite_store, rows_bundle()))
    with neighbour(settings.model_copy(update={"max_predict_rows": 10, "max_predict_items": 1})) as client:
        assert error(client.post(url, **call), 422)["code"] == "too_many_items"
        assert len(predictions(client.post(url, content=b"size\n" + b"1\n" * 10, headers=CSV))) == 10


def test_classes_and_labels_of_rows(sqlite_client: TestClient, sqlite_store: Store) -> None:
    body = {"items": [{"row": ROW}]}
    classified = predictions(sqlite_client.post(url_of(put(sqlite_store, rows_bundle())), json=body))[0]
    assert (classified["label"], classified["labels"]) == ("negative", None)
    assert sum(score["probability"] for score in classified["top"]) == pytest.approx(1)
    labelled = predictions(sqlite_client.post(url_of(put(sqlite_store, rows_bundle("multi_label"))), json=body))[0]
    assert (labelled["label"], labelled["labels"]) == (None, ["negative", "positive"])
    assert [score["label"] for score in labelled["top"]] == ["negative", "positive"]
