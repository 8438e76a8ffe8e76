"""Label spreading against scikit-learn's, and on items whose neighbours know better."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.semi_supervised import LabelSpreading

from worker.engine.methods.maths import spreading

Floats = NDArray[np.float32]


def lumps(count: int = 40, classes: int = 3, width: int = 8) -> tuple[Floats, NDArray[np.int64]]:
    """Rows of length one in lumps, and which each is in."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    rows = rng.normal(size=(classes, width))[labels] + 0.4 * rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def weights(rows: Floats, neighbours: int, power: float) -> NDArray[np.float64]:
    """The graph, the plain way."""
    cosines = rows.astype(np.float64) @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    found = np.zeros_like(cosines)
    for row, own in zip(found, cosines, strict=True):
        near = np.argsort(-own)[:neighbours]
        row[near] = np.maximum(own[near], 0) ** power
    return found + found.T


def test_it_is_what_scikit_learn_makes_of_the_same_graph() -> None:
    rows, labels = lumps()
    known = np.where(np.arange(len(rows)) < 6, labels, -1)
    oracle = LabelSpreading(kernel=lambda x, _y: weights(x, 5, 4.0), alpha=0.6, max_iter=30, tol=0)
    with pytest.warns(match="max_iter"):
        oracle.fit(rows, known)
    odds = np.eye(3)[labels] * (known >= 0)[:, None]
    found = spreading.spread(rows, odds, neighbours=5, share=0.6, power=4.0)
    assert np.allclose(found, oracle.label_distributions_, atol=1e-5)


def test_an_item_among_many_that_look_alike_is_taken_for_what_they_are() -> None:
    rows, labels = lumps()
    odds = np.full((len(rows), 3), 0.1) + 0.7 * np.eye(3)[labels]
    wrong = np.array([0, 1, 2])
    odds[wrong] = odds[wrong][:, [1, 2, 0]]
    assert (odds.argmax(axis=1) != labels).sum() == 3
    found = spreading.spread(rows, odds)
    assert (found.argmax(axis=1) == labels).all()
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_items_and_such_as_have_nothing_in_common(count: int) -> None:
    odds = np.full((count, 2), 0.5)
    odds[0] = [0.9, 0.1]
    apart = np.eye(count, 4, dtype=np.float32)
    found = spreading.spread(apart, odds)
    assert np.allclose(found, odds)
