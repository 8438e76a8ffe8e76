"""Shares of classes in a target: estimators against general solvers and the truth, then classifiers that use them."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from core.contract.methods import LabelShift, LinearProbe
from worker.engine.methods import label_shift, linear_probe
from worker.engine.methods.adapting import Domains
from worker.engine.methods.maths import label_shift as maths
from worker.engine.methods.maths.reweighting import explained
from worker.engine.metrics import softmax

CLASSES = 3
MEANS = np.array([[0.0, 0, 0], [1.6, 0, 0], [0, 1.6, 0.5]])


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(n, priors, seed):
    """Overlapping lumps of three classes, as often as `priors` say."""
    draw = rng(seed)
    labels = draw.choice(CLASSES, n, p=priors)
    return (MEANS[labels] + draw.normal(size=(n, 3))).astype(np.float32), labels.astype(np.int64)


def posterior(x, priors):
    """What Bayes' rule says of items."""
    return softmax(-0.5 * np.square(x[:, None] - MEANS).sum(axis=2) + np.log(priors))


def domains(xs, ys, xt):
    names = [[str(i) for i in range(len(x))] for x in (xs, xt)]
    return Domains(xs, ys, xt, np.full(len(xt), -1), CLASSES, *names)


def ones(*arrays):
    return tuple(np.ones(len(x)) for x in arrays)


EVEN = np.full(3, 1 / 3)
SKEWED = np.array([0.7, 0.1, 0.2])


def test_shares_on_the_simplex_are_those_of_a_general_solver():
    draw = rng()
    for _ in range(5):
        columns, wanted = draw.random((6, 4)), draw.random(6)
        oracle = minimize(
            lambda q, a=columns, b=wanted: np.square(a @ q - b).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints=[{"type": "eq", "fun": lambda q: q.sum() - 1}],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        found = maths.simplex(columns, wanted)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        assert np.square(columns @ found - wanted).sum() == pytest.approx(oracle.fun, abs=1e-5)


def test_a_mixtures_shares_are_the_most_likely_ones():
    density = np.exp(rng().normal(size=(50, 3)))
    counts = rng(1).integers(0, 4, 50).astype(float)
    oracle = minimize(
        lambda q: -counts @ np.log(density @ q) / counts.sum(),
        EVEN,
        bounds=[(1e-9, 1)] * 3,
        constraints=[{"type": "eq", "fun": lambda q: q.sum() - 1}],
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    found = maths.mixture(density, counts, steps=20_000, tol=1e-13)
    np.testing.assert_allclose(found, oracle.x, atol=1e-3)


@pytest.mark.parametrize("truth", [SKEWED, np.array([0.6, 0.4, 0.0]), EVEN], ids=["skewed", "partial", "even"])
@pytest.mark.parametrize("estimator", ["mlls", "bbse", "soft bbse", "means"])
def test_the_targets_shares_are_found(estimator, truth):
    xs, ys = drawn(2000, EVEN, 0)
    xt, yt = drawn(2000, truth, 1)
    ours, theirs = posterior(xs, EVEN), posterior(xt, EVEN)
    estimate = {
        "mlls": lambda: maths.mlls(ours, theirs),
        "bbse": lambda: maths.matching(np.eye(3)[ours.argmax(1)], ys, np.eye(3)[theirs.argmax(1)], 3),
        "soft bbse": lambda: maths.matching(ours, ys, theirs, 3),
        "means": lambda: maths.matching(xs.astype(float), ys, xt.astype(float), 3),
    }[estimator]()
    real = np.bincount(yt, minlength=3) / len(yt)
    np.testing.assert_allclose(estimate(*ones(xs, xt)), real, atol=0.06)


def test_items_that_count_twice_count_as_two():
    xs, ys = drawn(60, EVEN, 0)
    xt, _ = drawn(50, SKEWED, 1)
    ours, theirs = posterior(xs, EVEN), posterior(xt, EVEN)
    twice = np.concatenate([np.arange(60), np.arange(20)]), np.concatenate([np.arange(50), np.arange(10)])
    counts = [np.bincount(rows).astype(float) for rows in twice]
    for weighed, repeated in (
        (maths.mlls(ours, theirs), maths.mlls(ours[twice[0]], theirs[twice[1]])),
        (maths.matching(ours, ys, theirs, 3), maths.matching(ours[twice[0]], ys[twice[0]], theirs[twice[1]], 3)),
    ):
        np.testing.assert_allclose(weighed(*counts), repeated(np.ones(80), np.ones(60)), atol=1e-6)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(40):
        xs, ys = drawn(150, EVEN, seed)
        xt, _ = drawn(150, SKEWED, 1000 + seed)
        estimate = maths.matching(posterior(xs, EVEN), ys, posterior(xt, EVEN), 3)
        low, high = maths.interval(estimate, 150, 150, rng(seed), rounds=60)
        held.append((low <= SKEWED) & (high >= SKEWED))
    assert 0.8 <= np.mean(held) <= 0.97  # of 0.9, from 40 draws


def test_calibration_is_logistic_regression_on_what_was_said():
    xs, ys = drawn(500, SKEWED, 0)
    off = 3 * np.log(posterior(xs, SKEWED)) + np.array([1.0, -1, 0])
    factor, bias = maths.calibrate(off, ys)
    said = softmax(factor * off + bias)
    assert factor == pytest.approx(1 / 3, rel=0.15)
    np.testing.assert_allclose(said.mean(axis=0), np.bincount(ys) / 500, atol=0.01)
    free = LogisticRegression(C=1e6, max_iter=2000).fit(off, ys).predict_proba(off)
    assert np.abs(said - free).mean() < 0.05


def test_where_every_item_is_right_calibration_stays_finite():
    factor, bias = maths.calibrate(50 * np.eye(3)[np.arange(30) % 3], np.arange(30) % 3)
    assert np.isfinite(factor)
    assert np.isfinite(bias).all()


@pytest.mark.parametrize("estimator", ["mlls", "bbse", "tars"])
def test_reckoning_with_the_shares_beats_the_source_alone(estimator):
    xs, ys = drawn(600, EVEN, 0)
    xt, yt = drawn(600, np.array([0.9, 0.05, 0.05]), 10)
    plain = linear_probe.fit(xs, ys, 3, LinearProbe(), rng=rng(), modality="tabular").head
    adapted = label_shift.fit(domains(xs, ys, xt), LabelShift(estimator=estimator), rng(), "tabular", ["a", "b", "c"])
    right = [(head(xt).argmax(axis=1) == yt).mean() for head in (plain, adapted.head)]
    assert right[1] > right[0] + 0.05
    shares = adapted.options["class_shares"]
    assert shares["a"]["low"] <= shares["a"]["target"] <= shares["a"]["high"]
    assert shares["a"]["target"] == pytest.approx(0.9, abs=0.1)
    assert adapted.options["explained"] > 0.9
    assert "a 29.7%" in adapted.notes[0]
    assert "nothing else" in adapted.notes[1]


@pytest.mark.parametrize("estimator", ["mlls", "bbse", "tars"])
def test_where_inputs_have_moved_shares_are_not_made_of_it(estimator):
    xs, ys = drawn(400, EVEN, 0)
    xt, yt = drawn(400, EVEN, 1)
    xt = xt + np.array([0, 0, 2], np.float32)
    plain = linear_probe.fit(xs, ys, 3, LinearProbe(), rng=rng(), modality="tabular").head
    adapted = label_shift.fit(domains(xs, ys, xt), LabelShift(estimator=estimator), rng(), "tabular")
    right = [(head(xt).argmax(axis=1) == yt).mean() for head in (plain, adapted.head)]
    assert right[1] > right[0] - 0.02
    assert adapted.options["explained"] < 0.2
    assert "in another way, too" in adapted.notes[1]


def test_what_weights_do_away_with_is_told_from_what_they_leave():
    draw = rng()
    source, same, moved = draw.normal(size=(300, 3)), draw.normal(size=(300, 3)), draw.normal(size=(300, 3)) + 1
    ratio = np.exp(source.sum(axis=1))  # of the densities of `moved` and of the source
    assert explained(source, moved, ratio) > 0.8
    assert explained(source, moved, np.ones(300)) == 0
    assert explained(source, same, np.ones(300)) in (0, 1)
