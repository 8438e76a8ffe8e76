"""Jobs that are measured on episodes: what is refused before a worker sees them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.store.store import Store
from tests.app.seed import add_dataset
from tests.app.test_targets import _refused

NAMES = ("a", "b", "c", "d", "e", "f")


def _post(client: TestClient, source: str, evaluation: str | None = None, **method: Any) -> Any:
    body: dict[str, Any] = {"source": source, "method": {"name": "simple_shot", "ways": [3], **method}}
    return client.post("/jobs", json=body | ({"evaluation": evaluation} if evaluation else {}))


@pytest.fixture
def source(store: Store) -> str:
    return add_dataset(store, classes=NAMES, per_class=6)


def test_a_job_is_entered_with_its_options(client: TestClient, source: str) -> None:
    reply = _post(client, source, transductive="tim")
    assert reply.status_code == 201
    assert reply.json()["method"]["transductive"] == "tim"
    assert reply.json()["method"]["shots"] == [1, 5]


def test_more_ways_than_classes_are_refused(client: TestClient, source: str) -> None:
    error = _refused(_post(client, source, ways=[5, 7]), 409, "too_few_classes", "method.ways")
    assert error["details"] == {"classes": 6, "ways": [5, 7]}
    assert _post(client, source, ways=[5, 7], rotations=True).status_code == 201


def test_classes_that_are_named_have_to_be_there(client: TestClient, store: Store, source: str) -> None:
    _refused(_post(client, source, test_classes=["a", "x"]), 409, "unknown_class", "method.test_classes")
    other = add_dataset(store, classes=("x", "y", "z"), per_class=6)
    reply = _post(client, source, other, test_classes=["a", "b"])
    _refused(reply, 422, "not_applicable", "method.test_classes")


def test_another_data_set_has_other_classes(client: TestClient, store: Store, source: str) -> None:
    new = add_dataset(store, classes=("x", "y", "z"), per_class=6)
    assert _post(client, source, new).status_code == 201
    mixed = add_dataset(store, classes=("x", "b", "c"), per_class=6)
    error = _refused(_post(client, source, mixed), 409, "classes_known", "evaluation")
    assert error["details"] == {"known": ["b", "c"]}


@pytest.mark.parametrize(
    ("method", "param"),
    [
        ({"ways": [1]}, "method.ways.0"),
        ({"shots": [0]}, "method.shots.0"),
        ({"episodes": 5}, "method.episodes"),
        ({"transductive": "magic"}, "method.transductive"),
    ],
)
def test_figures_out_of_bounds_are_named(client: TestClient, source: str, method: dict[str, Any], param: str) -> None:
    reply = _post(client, source, **method)
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == param


def test_an_unknown_stage_is_refused(client: TestClient, source: str) -> None:
    body = {"source": source, "method": {"name": "prototypical_network", "freeze": "nowhere"}}
    _refused(client.post("/jobs", json=body), 422, "unknown_stage", "method.freeze")
