"""Kernel canonical correlation against the generalised eigenproblem in full, scikit-learn and brute force."""

import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.cross_decomposition import CCA

from worker.engine.methods.maths import cca


def views(n=80, *, seed=0, noise=0.3):
    """Two kinds of features, of 5 and 7, that have two hidden figures in common."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    first = hidden @ rng.normal(size=(2, 5)) + noise * rng.normal(size=(n, 5)) + 1
    second = hidden @ rng.normal(size=(2, 7)) + noise * rng.normal(size=(n, 7)) - 2
    return first, second, hidden


def test_without_regularisation_it_is_scikit_learns():
    x, y, _ = views()
    first, second, correlations = cca.canonical(x, y, 3, 0.0)
    oracle = CCA(3, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    a, b = oracle.transform(x, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(correlations, expected, atol=1e-4)
    assert np.corrcoef(x @ first[:, 0], y @ second[:, 0])[0, 1] == pytest.approx(correlations[0])


@pytest.mark.parametrize("n", [80, 4], ids=["many", "few"])
def test_it_solves_the_regularised_eigenproblem(n):
    x, y, _ = views(n)
    first, second, correlations = cca.canonical(x, y, 3, 0.1)
    xc, yc = x - x.mean(0), y - y.mean(0)
    cx, cy, cxy = xc.T @ xc / n, yc.T @ yc / n, xc.T @ yc / n
    cx += 0.1 * np.trace(cx) / 5 * np.eye(5)
    cy += 0.1 * np.trace(cy) / 7 * np.eye(7)
    whole = np.block([[np.zeros((5, 5)), cxy], [cxy.T, np.zeros((7, 7))]])
    ball = np.block([[cx, np.zeros((5, 7))], [np.zeros((7, 5)), cy]])
    expected = eigh(whole, ball, eigvals_only=True)[::-1][: len(correlations)]
    np.testing.assert_allclose(correlations, expected, atol=1e-9)
    np.testing.assert_allclose(first.T @ cx @ first, np.eye(len(correlations)), atol=1e-8)
    np.testing.assert_allclose(second.T @ cy @ second, np.eye(len(correlations)), atol=1e-8)


def test_unregularised_correlations_of_few_pairs_are_one_whatever_they_are():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 20)), rng.normal(size=(6, 20))
    assert cca.canonical(x, y, 3, 0.0)[2].min() > 1 - 1e-9
    assert cca.canonical(x, y, 3, 1.0)[2].max() < 0.99


def test_a_pair_has_at_most_one_axis_less_than_there_are_pairs():
    x, y, _ = views(4)
    assert cca.canonical(x, y, 10, 0.1)[0].shape == (5, 3)
    same = np.ones((5, 3))
    assert cca.canonical(same, same, 2, 0.1)[2].shape == (0,)


def test_the_gaussian_kernel_finds_what_no_line_shows():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    y = np.stack([np.cos(2 * angle), np.sin(2 * angle)], 1) + 0.05 * rng.normal(size=(400, 2))
    rows = np.arange(300)

    def held_out(landmarks):
        first, second = (cca.view(v, landmarks, 2.0, np.random.default_rng(1)) for v in (x, y))
        found = cca.correlate(first, second, (rows, rows), 2, 0.1)
        a, b = found.source(x[300:]), found.target(y[300:])
        return np.corrcoef(a[:, 0], b[:, 0])[0, 1]

    assert abs(held_out(0)) < 0.3
    assert held_out(100) > 0.9


@pytest.mark.parametrize("landmarks", [0, 30])
def test_new_items_are_projected_as_those_seen(landmarks):
    x, y, _ = views()
    first, second = (cca.view(v, landmarks, 1.0, np.random.default_rng(1)) for v in (x, y))
    rows = np.arange(40)
    found = cca.correlate(first, second, (rows, rows), 3, 0.1)
    one = y[70:71].astype(np.float32)
    for stage in found.target.stages():
        one = stage(one)
    np.testing.assert_allclose(one, found.target(y)[70:71], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.target(y[:40]).mean(0), 0, atol=1e-6)
