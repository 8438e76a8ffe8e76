"""Weights of source items: the maths against brute force and known densities, then whole jobs on a shifted toy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from core.contract.methods import DomainWeights, Kliep, Kmm, LinearProbe
from worker.engine.methods import domain_weights, kliep, kmm, linear_probe, reweighted
from worker.engine.methods.adapting import Domains
from worker.engine.methods.maths import kliep as kliep_maths
from worker.engine.methods.maths import kmm as kmm_maths
from worker.engine.methods.maths import reweighting

WEIGHERS = {
    "kmm": (Kmm(), kmm.weigh(Kmm())),
    "kliep": (Kliep(), kliep.weigh(Kliep())),
    "domain_weights": (DomainWeights(), domain_weights.odds),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def gaussians(n=600, m=500, seed=0):
    """Source N(0, 1), target N(0.8, 0.7) along the first of two axes, and the true ratio at the source items."""
    draw = rng(seed)
    source, target = draw.normal(size=(n, 2)), draw.normal(size=(m, 2))
    target[:, 0] = 0.8 + 0.7 * target[:, 0]
    ours, theirs = multivariate_normal([0, 0]), multivariate_normal([0.8, 0], np.diag([0.49, 1]))
    return source, target, theirs.pdf(source) / ours.pdf(source)


def curved(n=400, m=400, seed=0):
    """Classes parted by a curve that no line follows: which line is best depends on where the items lie."""
    draw = rng(seed)
    xs, xt = draw.normal(size=(n, 4)), draw.normal(size=(m, 4))
    xt[:, 0] = 1.4 + 0.5 * xt[:, 0]
    xs[:, 2:] *= 0.3
    xt[:, 2:] *= 0.3

    def classes(x):
        return (x[:, 1] > np.square(x[:, 0]) - 1).astype(np.int64)

    return xs.astype(np.float32), classes(xs), xt.astype(np.float32), classes(xt)


def domains(xs, ys, xt, classes=2):
    names = [[str(i) for i in range(len(x))] for x in (xs, xt)]
    return Domains(xs, ys, xt, np.full(len(xt), -1), classes, *names)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("bound", [2.0, 1000.0])
def test_kmm_solves_its_quadratic_problem(noise, bound):
    source, target, _ = gaussians(30, 20)
    problem = kmm_maths.pose(source, target, 0.5, rng())
    eps = kmm_maths.slack(30)
    kernel = reweighting.gaussian(source, source, 0.5) + noise * np.eye(30)
    kappa = 30 * reweighting.gaussian(source, target, 0.5).mean(axis=1)

    def value(w):
        return 0.5 * w @ kernel @ w - kappa @ w

    limits = [
        {"type": "ineq", "fun": lambda w: 30 * (1 + eps) - w.sum()},
        {"type": "ineq", "fun": lambda w: w.sum() - 30 * (1 - eps)},
    ]
    oracle = minimize(
        value,
        np.ones(30),
        jac=lambda w: kernel @ w - kappa,
        bounds=[(0, bound)] * 30,
        constraints=limits,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    found = kmm_maths.match(problem, bound=bound, noise=noise, steps=20_000, tol=1e-10)
    assert found.min() >= 0
    assert found.max() <= bound + 1e-9
    assert 30 * (1 - eps) - 1e-6 <= found.sum() <= 30 * (1 + eps) + 1e-6
    assert value(found) == pytest.approx(oracle.fun, rel=1e-5)


@pytest.mark.parametrize("total", [(0, 100), (0, 1.5), (6, 9)])
def test_projection_is_the_nearest_point(total):
    wanted = np.array([-1.0, 0.2, 0.9, 3.0, 0.4])
    found = kmm_maths.project(wanted, 2.0, total)
    oracle = minimize(
        lambda w: np.square(w - wanted).sum(),
        np.full(5, 0.5),
        bounds=[(0, 2)] * 5,
        constraints=[
            {"type": "ineq", "fun": lambda w: total[1] - w.sum()},
            {"type": "ineq", "fun": lambda w: w.sum() - total[0]},
        ],
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(found, oracle.x, atol=1e-4)


def test_kmm_on_landmarks_is_close_to_kmm_on_all_items(monkeypatch):
    source, target, _ = gaussians()
    exact = kmm_maths.match(kmm_maths.pose(source, target, 0.5, rng()))
    monkeypatch.setattr(kmm_maths, "EXACT", 0)
    monkeypatch.setattr(kmm_maths, "LANDMARKS", 150)
    assert np.corrcoef(exact, kmm_maths.match(kmm_maths.pose(source, target, 0.5, rng())))[0, 1] > 0.99


def test_kliep_reaches_the_likelihood_that_a_general_solver_reaches():
    source, target, _ = gaussians(80, 60)
    centres = target[:12]
    norm = reweighting.gaussian(source, centres, 0.5).mean(axis=0)
    density = reweighting.gaussian(target, centres, 0.5)
    oracle = minimize(
        lambda a: -np.log(density @ a).mean(),
        np.full(12, 1 / norm.sum()),
        bounds=[(0, None)] * 12,
        constraints=[{"type": "eq", "fun": lambda a: norm @ a - 1}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    ratio = kliep_maths.fit(source, target, 0.5, centres, steps=20_000, tol=1e-10)
    assert ratio(source).mean() == pytest.approx(1)
    assert np.log(ratio(target)).mean() == pytest.approx(-oracle.fun, abs=1e-5)


def test_kliep_without_any_source_item_near_its_kernels_gives_nothing():
    ratio = kliep_maths.fit(np.zeros((5, 2)), np.full((5, 2), 1e3), 1.0, np.full((2, 2), 1e3))
    assert not ratio(np.zeros((5, 2))).any()


@pytest.mark.parametrize(("name", "least"), [("kmm", 0.85), ("kliep", 0.85), ("domain_weights", 0.8)])
def test_the_ratio_of_two_gaussians_is_found(name, least):
    source, target, truth = gaussians()
    found = WEIGHERS[name][1](source, target, rng())
    assert np.corrcoef(found, truth)[0, 1] > least
    same = WEIGHERS[name][1](source, rng(1).normal(size=(500, 2)), rng())
    assert reweighting.effective_size(same / same.mean()) > 0.75 * len(source)


def test_effective_size_counts_items_of_equal_weight():
    assert reweighting.effective_size(np.ones(7)) == pytest.approx(7)
    assert reweighting.effective_size(np.array([2.0, 2, 0, 0])) == pytest.approx(2)


@pytest.mark.parametrize("clip", [1.5, 3.0, 1000.0])
def test_no_weight_is_above_the_clip(clip):
    raw = np.exp(3 * rng().normal(size=200))
    cut = np.minimum(raw, reweighting.clip_level(raw, clip))
    assert cut.max() / cut.mean() <= clip + 1e-9
    if (cut < raw).any():
        assert cut.max() / cut.mean() == pytest.approx(clip)


def test_where_nearly_all_ratios_are_nothing_there_is_nothing_to_cut_at():
    found = reweighting.settle(np.eye(1, 200)[0], 20)
    assert found.uniform
    assert found.effective == pytest.approx(1)


def test_weights_that_few_items_carry_are_given_up():
    raw = np.zeros(100)
    raw[:5] = 1
    given_up = reweighting.settle(raw, 1000)
    assert given_up.uniform
    assert given_up.effective == pytest.approx(5)
    np.testing.assert_array_equal(given_up.weights, 1)
    raw[:30] = 1
    kept = reweighting.settle(raw, 1000)
    assert not kept.uniform
    assert kept.weights.mean() == pytest.approx(1)
    assert kept.weights.min() > 0


@pytest.mark.parametrize("raw", [np.zeros(4), np.array([np.nan, np.nan, 0, 0])])
def test_weights_that_say_nothing_are_even(raw):
    np.testing.assert_allclose(reweighting.settle(raw, 20).weights, 1)


def test_an_infinite_ratio_is_cut_like_a_great_one():
    found = reweighting.settle(np.array([np.inf, 1.0, 1.0, 1.0, 1.0]), 2.0)
    assert np.isfinite(found.weights).all()
    assert found.clipped == 1


def test_principal_axes_are_those_of_both_domains_alike():
    draw = rng()
    source, target = draw.normal(size=(50, 6)) * [5, 4, 3, 1, 1, 1], draw.normal(size=(50, 6)) * [5, 4, 3, 1, 1, 1] + 1
    found = np.concatenate(reweighting.principal(source, target, 3, draw))
    oracle = PCA(3).fit_transform(np.concatenate([source, target]))
    np.testing.assert_allclose(np.abs(found), np.abs(oracle), atol=1e-2)


def test_an_important_item_counts_as_if_it_were_there_several_times():
    xs, ys, _, _ = curved(60)
    counts = np.arange(60) % 3 + 1.0
    options = LinearProbe(solver="ridge", regularisation=0.01, normalise="none")
    many = np.repeat(np.arange(60), counts.astype(int))
    weighed = linear_probe.fit(xs, ys, 2, options, rng=rng(), importance=counts / counts.mean())
    repeated = linear_probe.fit(xs[many], ys[many], 2, options, rng=rng())
    angle = weighed.head.weight.ravel() @ repeated.head.weight.ravel()
    lengths = np.linalg.norm(weighed.head.weight) * np.linalg.norm(repeated.head.weight)
    assert angle == pytest.approx(lengths, rel=1e-5)


@pytest.mark.parametrize("name", WEIGHERS)
def test_weights_beat_no_weights_where_inputs_have_moved(name):
    xs, ys, xt, yt = curved()
    options, weigh = WEIGHERS[name]
    plain = linear_probe.fit(xs, ys, 2, LinearProbe(), rng=rng(), modality="tabular").head
    adapted = reweighted.fit(domains(xs, ys, xt), options, weigh, rng(), "tabular")
    right = [(head(xt).argmax(axis=1) == yt).mean() for head in (plain, adapted.head)]
    assert right[1] > right[0] + 0.05
    assert adapted.options["uniform"] is False


@pytest.mark.parametrize("name", WEIGHERS)
def test_a_target_out_of_reach_leaves_the_plain_classifier_and_says_so(name):
    xs, ys, xt, _ = curved(200, 200)
    xt = xt.copy()
    xt[:, 3] += 30
    options, weigh = WEIGHERS[name]
    adapted = reweighted.fit(domains(xs, ys, xt), options, weigh, rng(), "tabular")
    if adapted.options["uniform"]:
        plain = linear_probe.fit(xs, ys, 2, LinearProbe(), rng=rng(), modality="tabular").head
        said = adapted.head(xt).argmax(axis=1)
        assert (said == plain(xt).argmax(axis=1)).mean() > 0.99
        assert "without adaptation" in adapted.notes[0]
    else:
        assert adapted.options["effective_share"] >= reweighting.FEWEST
