"""The probe's maths against scikit-learn and against brute force."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from core.contract.errors import JobError
from core.contract.methods import LinearProbe
from worker.engine import metrics
from worker.engine.methods import linear_probe
from worker.engine.methods.maths import logistic, ridge
from worker.engine.methods.maths.folds import balanced_weights, stratified_folds


def blobs(n, width, classes, *, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, width)) * spread / np.sqrt(width) * 3
    return (centres[labels] + rng.normal(size=(n, width)) + 2).astype(np.float32), labels


@pytest.mark.parametrize(("n", "width"), [(60, 8), (30, 50)], ids=["primal", "dual"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_equals_scikit_learn(n, width, weighted):
    x, labels = blobs(n, width, 3)
    targets = np.eye(3)[labels]
    weights = balanced_weights(labels, 3) * np.linspace(0.5, 1.5, n) if weighted else np.ones(n)
    parts = ridge.decompose(x, targets, weights)
    weight, bias = ridge.solve(parts, 0.03)
    oracle = Ridge(alpha=0.03 * n).fit(x.astype(np.float64), targets, sample_weight=weights * n / weights.sum())
    np.testing.assert_allclose(weight, oracle.coef_, atol=1e-8)
    np.testing.assert_allclose(bias, oracle.intercept_, atol=1e-8)


@pytest.mark.parametrize(("n", "width"), [(40, 6), (25, 40)], ids=["primal", "dual"])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_equals_leaving_each_item_out(n, width, weighted):
    x, labels = blobs(n, width, 3)
    targets = np.eye(3)[labels]
    weights = np.linspace(0.5, 1.5, n) if weighted else np.ones(n)
    found = ridge.leave_one_out(ridge.decompose(x, targets, weights), np.array([7.0, 0.05]))[1]
    weights = weights * n / weights.sum()
    for item in range(n):
        rest = np.arange(n) != item
        oracle = Ridge(alpha=0.05 * n).fit(x[rest].astype(np.float64), targets[rest], sample_weight=weights[rest])
        np.testing.assert_allclose(found[item], oracle.predict(x[item : item + 1].astype(np.float64))[0], atol=1e-7)


@pytest.mark.parametrize(("n", "width"), [(200, 12), (60, 150)], ids=["tall", "wide"])
@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_logistic_regression_equals_scikit_learn(n, width, penalty):
    x, labels = blobs(n, width, 4, spread=0.7)
    fitted = linear_probe.fit(
        x,
        labels,
        4,
        LinearProbe(solver="lbfgs", regularisation=penalty, normalise="none"),
        rng=np.random.default_rng(0),
    )
    oracle = LogisticRegression(C=1 / (n * penalty), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), labels)
    np.testing.assert_allclose(metrics.softmax(fitted.head(x)), oracle.predict_proba(x), atol=0.02)
    assert (fitted.head(x).argmax(axis=1) == oracle.predict(x)).mean() > 0.99


def test_logistic_regression_reaches_the_optimum_in_double_precision():
    x, labels = blobs(150, 20, 3, spread=0.7)
    basis = logistic.rotate(x.astype(np.float64))
    share = np.full((150, 1), 1 / 150)
    start = np.zeros((basis.z.shape[1] + 1, 1, 3))
    solution = logistic.minimise(basis, labels, share, start, 0.01, tolerance=1e-12, iterations=1000)
    weight, bias = logistic.unrotate(basis, solution[:, 0])
    oracle = LogisticRegression(C=1 / 1.5, tol=1e-12, max_iter=10_000).fit(x.astype(np.float64), labels)
    np.testing.assert_allclose(weight, oracle.coef_, atol=1e-4)
    np.testing.assert_allclose(bias - bias.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=1e-4)


def test_folds_solved_together_equal_folds_solved_alone():
    x, labels = blobs(90, 15, 3, spread=0.6)
    basis = logistic.rotate(x)
    fold = stratified_folds(labels, 3, np.random.default_rng(0))
    mask = (fold[:, None] != np.arange(3)).astype(np.float32)
    mask /= mask.sum(axis=0)
    zeros = np.zeros((basis.z.shape[1] + 1, 3, 3), dtype=np.float32)
    together = logistic.minimise(basis, labels, mask, zeros, 0.01, tolerance=1e-6)
    for f in range(3):
        alone = logistic.minimise(basis, labels, mask[:, f : f + 1], zeros[:, :1], 0.01, tolerance=1e-6)
        np.testing.assert_allclose(together[:, f], alone[:, 0], atol=2e-2)


def test_the_gradient_is_the_gradient():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    mask = rng.random((20, 2))
    at, direction = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 3))
    _, gradient = logistic.objective(z, labels, mask, at, 0.1)
    ahead, _ = logistic.objective(z, labels, mask, at + 1e-6 * direction, 0.1)
    behind, _ = logistic.objective(z, labels, mask, at - 1e-6 * direction, 0.1)
    np.testing.assert_allclose(np.einsum("rfc,rfc->f", gradient, direction), (ahead - behind) / 2e-6, rtol=1e-6)


def test_blocks_do_not_change_the_objective(monkeypatch):
    rng = np.random.default_rng(0)
    z, labels, mask = rng.normal(size=(50, 4)), rng.integers(0, 3, 50), rng.random((50, 2))
    at = rng.normal(size=(5, 2, 3))
    whole = logistic.objective(z, labels, mask, at, 0.1)
    monkeypatch.setattr(logistic, "_BLOCK", 40)
    cut = logistic.objective(z, labels, mask, at, 0.1)
    np.testing.assert_allclose(whole[0], cut[0])
    np.testing.assert_allclose(whole[1], cut[1])


@pytest.mark.parametrize("solver", ["ridge", "lbfgs"])
@pytest.mark.parametrize("normalise", ["none", "l2", "standardise"])
def test_it_learns_and_its_out_of_fold_logits_are_honest(solver, normalise):
    x, labels = blobs(300, 40, 5, spread=0.9)
    new, truth = blobs(2000, 40, 5, spread=0.9)
    fresh = np.random.default_rng(9).normal(size=new.shape).astype(np.float32) + 2
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 40)) * 0.9 / np.sqrt(40) * 3
    new = (centres[truth] + fresh).astype(np.float32)
    fitted = linear_probe.fit(
        x, labels, 5, LinearProbe(solver=solver, normalise=normalise), rng=np.random.default_rng(0)
    )
    accuracy = (fitted.head(new).argmax(axis=1) == truth).mean()
    assert accuracy > 0.68  # the true centres give about 0.73
    held_out = (fitted.out_of_fold.argmax(axis=1) == labels).mean()
    assert held_out == pytest.approx(accuracy, abs=0.06)
    xs = [point.x for point in fitted.curve]
    assert xs == sorted(xs)
    assert min(xs) <= np.log10(fitted.penalty) <= max(xs)


def test_the_chosen_penalty_is_the_best_of_the_curve():
    x, labels = blobs(200, 30, 4, spread=0.5)
    logistic_fit = linear_probe.fit(x, labels, 4, LinearProbe(solver="lbfgs"), rng=np.random.default_rng(0))
    best = min(logistic_fit.curve, key=lambda point: point.validation_loss)
    assert best.x == pytest.approx(np.log10(logistic_fit.penalty))
    ridge_fit = linear_probe.fit(x, labels, 4, LinearProbe(solver="ridge"), rng=np.random.default_rng(0))
    best = max(ridge_fit.curve, key=lambda point: (point.validation_accuracy, -point.validation_loss))
    assert best.x == pytest.approx(np.log10(ridge_fit.penalty))


def test_class_weights_help_the_rare_class():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 190 + [1] * 10)
    x = (rng.normal(size=(200, 5)) + labels[:, None] * 0.8).astype(np.float32)
    for solver in ("ridge", "lbfgs"):
        options = [
            LinearProbe(solver=solver, regularisation=0.01, normalise="none", class_weights=w) for w in (False, True)
        ]
        plain, weighted = (linear_probe.fit(x, labels, 2, option, rng=rng).head(x).argmax(axis=1) for option in options)
        assert weighted[labels == 1].mean() > plain[labels == 1].mean() + 0.2


def test_few_items_are_survived():
    x, labels = blobs(3, 10, 3)  # one item a class: nothing to validate with
    options = LinearProbe(solver="lbfgs")
    fitted = linear_probe.fit(x, labels, 3, options, rng=np.random.default_rng(0))
    assert (fitted.head(x).argmax(axis=1) == labels).all()
    assert np.isnan(fitted.out_of_fold).all()
    assert "single training item" in fitted.notes[0]
    labels = np.array([0, 0, 0, 1, 1, 2])
    x, _ = blobs(6, 10, 3)
    fitted = linear_probe.fit(x, labels, 3, options, rng=np.random.default_rng(0))
    assert np.isnan(fitted.out_of_fold[5]).all()
    assert np.isfinite(fitted.out_of_fold[:5]).all()
    constant = np.ones((6, 10), dtype=np.float32)
    for solver in ("ridge", "lbfgs"):
        flat = linear_probe.fit(constant, labels, 3, LinearProbe(solver=solver), rng=np.random.default_rng(0))
        assert np.isfinite(flat.head(constant)).all()


def test_damaged_features_are_refused():
    x, labels = blobs(20, 4, 2)
    x[3, 1] = np.nan
    with pytest.raises(JobError) as caught:
        linear_probe.fit(x, labels, 2, LinearProbe(), rng=np.random.default_rng(0))
    assert caught.value.code == "features_not_finite"


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2, 3], [50, 23, 5, 1])
    fold = stratified_folds(labels, 5, np.random.default_rng(0))
    for label, (low, high) in {0: (10, 10), 1: (4, 5), 2: (1, 1)}.items():
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.min() >= low
        assert counts.max() <= high
    assert fold[-1] == -1
    np.testing.assert_array_equal(fold, stratified_folds(labels, 5, np.random.default_rng(0)))
