"""Items that are none of a few-shot model's classes, and answers that differ by rounding alone."""

import numpy as np
import onnxruntime as ort
import pytest
from fastapi.testclient import TestClient

from app.classes.service import agree
from core.contract.few_shot import HeadKind
from core.store.store import Store
from tests.app.bundles import Bundle, make_bundle, put
from tests.app.few_shot_bundles import KINDS, few_shot_bundle
from tests.app.few_shot_doors import YELLOW, add, answers, of_reply, photos


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
