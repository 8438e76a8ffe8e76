"""Scores of features for labels, against slow computations that follow the papers to the letter."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from worker.engine.methods.maths import relevance
from worker.engine.methods.maths.relevance import h_score, logme, nearest_neighbours, weighted_kendall


def _data(n: int, width: int, classes: int, signal: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    centres = rng.normal(size=(classes, width))
    return (rng.normal(size=(n, width)) + signal * centres[labels]).astype(np.float32), labels


def _best_evidence(x, y) -> float:
    """Largest log density of y under N(0, I / beta + x x' / alpha), by a general optimiser from several starts."""
    n = len(y)

    def negative(point) -> float:
        alpha, beta = np.exp(np.clip(point, -25, 25))
        covariance = np.eye(n) / beta + x @ x.T / alpha
        return -float(multivariate_normal.logpdf(y, mean=np.zeros(n), cov=covariance))

    starts = [(0.0, 0.0), (3.0, 1.0), (6.0, 2.0)]
    found = [
        minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-8}) for start in starts
    ]
    return -min(one.fun for one in found)


@pytest.mark.parametrize(("n", "width"), [(30, 8), (24, 40)])
def test_logme_is_the_largest_evidence(n: int, width: int) -> None:
    x, labels = _data(n, width, 3)
    expected = np.mean([_best_evidence(x.astype(float), (labels == c).astype(float)) for c in range(3)]) / n
    assert logme(x, labels) == pytest.approx(expected, abs=2e-4)


def test_logme_of_values_is_the_mean_over_the_columns() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    y = np.stack([x @ rng.normal(size=6) + 0.3 * rng.normal(size=30), rng.normal(size=30)], axis=1)
    one, two = (_best_evidence(x.astype(float), column) / 30 for column in y.T)
    assert one > two
    assert logme(x, y) == pytest.approx((one + two) / 2, abs=2e-4)


def test_logme_prefers_features_that_tell_the_classes_apart() -> None:
    good, labels = _data(200, 20, 4, signal=1.5)
    bad, _ = _data(200, 20, 4, signal=0.2)
    assert logme(good, labels) > logme(bad, labels) + 0.05


def _h_by_the_letter(x, labels, *, shrink: bool) -> float:
    centred = x.astype(float) - x.mean(axis=0, dtype=float)
    means = np.stack([centred[labels == label].mean(axis=0) for label in labels])
    between = means.T @ means / len(x)
    fitted = LedoitWolf().fit(centred)
    covariance = fitted.covariance_ if shrink else np.cov(centred, rowvar=False, bias=True)
    return (1 - shrink * fitted.shrinkage_) * float(np.trace(np.linalg.pinv(covariance) @ between))


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize(("n", "width"), [(60, 10), (40, 70)])
def test_h_score_is_the_trace_of_the_papers(n: int, width: int, shrink: bool) -> None:
    x, labels = _data(n, width, 5)
    assert h_score(x, labels, shrink=shrink) == pytest.approx(_h_by_the_letter(x, labels, shrink=shrink), rel=1e-5)


def test_h_score_of_columns_is_the_mean_of_their_own() -> None:
    x, labels = _data(80, 12, 3)
    both = np.stack([labels == 0, labels == 1], axis=1).astype(np.float32)
    alone = [_h_by_the_letter(x, (labels == c).astype(int), shrink=True) for c in (0, 1)]
    assert h_score(x, both) == pytest.approx(np.mean(alone), rel=1e-5)


def test_h_score_knows_a_value_that_follows_the_features() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 5))
    follows, alone = (x @ rng.normal(size=5))[:, None], rng.normal(size=(300, 1))
    assert h_score(x, follows, shrink=False) == pytest.approx(1, abs=1e-6)  # all of its variance
    assert h_score(x, alone) < 0.1


def _neighbours_by_the_letter(x, y, k: int):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for i in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:k]
        weights = [np.exp(float(unit[i] @ unit[j]) / 0.07) for j in others]
        found.append(sum(w * y[j] for w, j in zip(weights, others, strict=True)) / sum(weights))
    return np.stack(found)


@pytest.mark.parametrize("block", [1, 300, 4_000_000])
def test_neighbours_are_the_nearest_others(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "_SIMILARITIES", block)
    x, labels = _data(50, 8, 4)
    expected = _neighbours_by_the_letter(x.astype(float), np.eye(4)[labels], 5)
    np.testing.assert_allclose(nearest_neighbours(x, labels, 5), expected, atol=1e-4)


def test_neighbours_of_few_items_and_of_values() -> None:
    x = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    found = nearest_neighbours(x, np.array([[1.0], [2.0], [9.0]]), 5)
    assert found.shape == (3, 1)
    assert found[0] == pytest.approx(2, abs=0.01)
    assert found[1] == pytest.approx(1, abs=0.01)


def test_a_wish_is_heard_between_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "_SIMILARITIES", 1)
    calls: list[int] = []
    x, labels = _data(20, 4, 2)
    nearest_neighbours(x, labels, check=lambda: calls.append(1))
    assert len(calls) == 20


def _tau_by_the_letter(a, b) -> float:
    """Vigna 2015: pairs weighed by 1 / (rank + 1) of both items, ranked by one list, then by the other."""

    def ranked(first, second):
        order = sorted(range(len(first)), key=lambda i: (-first[i], -second[i]))
        rank = {item: place for place, item in enumerate(order)}
        pairs = [(i, j) for i in range(len(first)) for j in range(i)]
        weight = {(i, j): 1 / (1 + rank[i]) + 1 / (1 + rank[j]) for i, j in pairs}

        def product(u, v):
            return sum(weight[i, j] * np.sign(u[i] - u[j]) * np.sign(v[i] - v[j]) for i, j in pairs)

        return product(first, second) / np.sqrt(product(first, first) * product(second, second))

    return (ranked(a, b) + ranked(b, a)) / 2


def test_weighted_kendall_is_vignas() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.integers(0, 9, 7).astype(float), rng.normal(size=7)
        assert weighted_kendall(a, b) == pytest.approx(_tau_by_the_letter(a, b), abs=1e-9)


def test_weighted_kendall_counts_the_first_places_most() -> None:
    truth = [6.0, 5, 4, 3, 2, 1]
    assert weighted_kendall(truth, truth) == pytest.approx(1)
    assert weighted_kendall(truth, truth[::-1]) == pytest.approx(-1)
    assert weighted_kendall(truth, [5, 6, 4, 3, 2, 1]) < weighted_kendall(truth, [6, 5, 4, 3, 1, 2])
    assert np.isnan(weighted_kendall([1.0], [1.0]))
