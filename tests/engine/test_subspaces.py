"""Maps between domains, against the papers' formulas in their long form and against brute force."""

import numpy as np
import pytest
from scipy.linalg import eigh, eigvals, expm, sqrtm
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from worker.engine.methods.maths import components, kernels, subspaces
from worker.engine.methods.maths.neighbours import nearest_labels


def domains(n=60, m=50, width=6, *, seed=0):
    """Three classes; the target is turned, stretched and moved."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, width)) * 2
    source_labels, target_labels = np.arange(n) % 3, np.arange(m) % 3
    slope = 0.3 * rng.normal(size=(width, width))
    turn = expm(slope - slope.T)
    source = centres[source_labels] + rng.normal(size=(n, width))
    target = (centres[target_labels] + rng.normal(size=(m, width))) @ turn * 1.5 + 1
    return source, source_labels, target, target_labels


def spread(x):
    return np.cov(x.T, bias=True)


# --- subspace alignment and CORAL


def test_principal_axes_equal_scikit_learns_in_both_forms():
    source, *_ = domains()
    for x in (source, source.T):  # more items than features, and the other way round
        mean, axes = subspaces.principal(x, 4)
        oracle = PCA(4).fit(x)
        np.testing.assert_allclose(mean, oracle.mean_)
        np.testing.assert_allclose(np.abs(axes.T @ oracle.components_.T), np.eye(4), atol=1e-8)


def test_subspace_alignment_compares_as_the_papers_similarity_does():
    source, _, target, _ = domains()
    aligned = subspaces.subspace_alignment(source, target, 3)
    ps, pt = (PCA(3).fit(x).components_.T for x in (source, target))
    similarity = (source - source.mean(0)) @ ps @ (ps.T @ pt) @ pt.T @ (target - target.mean(0)).T
    np.testing.assert_allclose(aligned.source(source) @ aligned.target(target).T, similarity, atol=1e-8)


def test_coral_gives_the_source_the_targets_mean_and_covariance():
    source, _, target, _ = domains()
    moved = subspaces.coral(source, target, 0.0)(source)
    np.testing.assert_allclose(moved.mean(0), target.mean(0))
    np.testing.assert_allclose(spread(moved), spread(target), atol=1e-6)


def test_coral_is_the_papers_formula_on_standardised_features():
    source, _, target, _ = (x if x.ndim == 1 else (x - x.mean(0)) / x.std(0) for x in domains())
    whiten = np.linalg.inv(sqrtm(spread(source) + np.eye(6)))
    expected = source @ whiten @ sqrtm(spread(target) + np.eye(6))
    np.testing.assert_allclose(subspaces.coral(source, target, 1.0)(source), expected, atol=1e-8)


def test_a_covariance_of_few_items_is_shrunk():
    few = domains(n=5)[0]
    np.testing.assert_allclose(subspaces.shrunk(few).covariance, LedoitWolf().fit(few).covariance_, atol=1e-10)
    many = domains(n=60)[0]
    np.testing.assert_allclose(subspaces.shrunk(many).covariance, spread(many), atol=1e-10)


def test_few_and_constant_items_are_survived():
    source, _, target, _ = domains(n=4, m=3)
    source[:, 0] = 1.0
    assert np.isfinite(subspaces.coral(source, target, 0.0)(source)).all()
    assert subspaces.subspace_alignment(source, target, 10).source(source).shape == (4, 2)  # three items: two axes


# --- transfer components


def gram(x, gamma=None):
    return x @ x.T if gamma is None else np.exp(-gamma * np.square(x[:, None] - x[None]).sum(2))


def quotients(x, n, weights, mu):
    """For columns of W: variance over distance + penalty, in the n x n form of the paper."""
    total = len(x)
    centring = np.eye(total) - 1 / total
    e = np.r_[np.full(n, 1 / n), np.full(total - n, -1 / (total - n))]
    top = weights.T @ x @ centring @ x @ weights
    bottom = weights.T @ (x @ np.outer(e, e) @ x + mu * np.eye(total)) @ weights
    return np.diag(top) / np.diag(bottom), top, bottom


@pytest.mark.parametrize("gamma", [None, 0.05], ids=["linear", "rbf"])
def test_tca_solves_the_papers_eigenproblem(gamma):
    source, _, target, _ = domains(20, 15)
    both = np.vstack([source, target])
    k = gram(both, gamma)
    k = k / np.trace(k) * len(k)
    found = components.tca(
        source, target, k=3, mu=0.7, landmarks=0 if gamma is None else 100, gamma=gamma, rng=np.random.default_rng(0)
    )
    # The projection of all items is K W: W by the pseudo-inverse.
    weights = np.linalg.pinv(k, rcond=1e-9) @ found(both)
    values, top, bottom = quotients(k, 20, weights, 0.7)
    centring = np.eye(35) - 1 / 35
    e = np.r_[np.full(20, 1 / 20), np.full(15, -1 / 15)]
    oracle = eigh(k @ centring @ k, k @ np.outer(e, e) @ k + 0.7 * np.eye(35), eigvals_only=True)[::-1][:3]
    np.testing.assert_allclose(values, oracle, rtol=1e-4)
    np.testing.assert_allclose(top - np.diag(np.diag(top)), 0, atol=1e-4 * top[0, 0])
    # And the non-symmetric product that the paper writes has the same spectrum, for a solver that may have it.
    product = np.linalg.solve(k @ np.outer(e, e) @ k + 0.7 * np.eye(35), k @ centring @ k)
    np.testing.assert_allclose(np.sort(eigvals(product).real)[::-1][:3], oracle, rtol=1e-6)
    assert (np.diag(bottom) > 0).all()


def test_no_other_direction_has_a_better_quotient():
    source, _, target, _ = domains(20, 15)
    both = np.vstack([source, target])
    k = gram(both) / np.trace(gram(both)) * 35
    found = components.tca(source, target, k=1, mu=0.7, rng=np.random.default_rng(0))
    best = quotients(k, 20, np.linalg.pinv(k, rcond=1e-9) @ found(both), 0.7)[0][0]
    others = np.random.default_rng(0).normal(size=(35, 500))
    assert quotients(k, 20, others, 0.7)[0].max() <= best * (1 + 1e-9)


def test_nystrom_comes_near_the_whole_kernel():
    source, _, target, _ = domains(150, 150)
    exact, rough = (
        components.tca(source, target, k=2, mu=1.0, landmarks=m, gamma=0.02, rng=np.random.default_rng(0))(target)
        for m in (300, 100)
    )
    correlation = np.abs([np.corrcoef(exact[:, i], rough[:, i])[0, 1] for i in range(2)])
    assert correlation.min() > 0.99


def test_nystrom_is_exact_on_its_landmarks_and_takes_them_from_both():
    source, _, target, _ = domains()
    marks = kernels.pick_landmarks(source, target, 30, np.random.default_rng(0))
    assert np.isin(marks[:, 0], source[:, 0]).sum() == np.isin(marks[:, 0], target[:, 0]).sum() == 15
    phi = kernels.kernel_map(marks, 0.1)(marks)
    np.testing.assert_allclose(phi @ phi.T, gram(marks, 0.1), atol=1e-6)
    assert len(kernels.pick_landmarks(source[:5], target, 30, np.random.default_rng(0))) == 30
    assert len(kernels.pick_landmarks(source, target[:5], 30, np.random.default_rng(0))) == 30


@pytest.mark.parametrize("landmarks", [0, 40])
def test_new_items_are_projected_as_those_seen(landmarks):
    """As stages of a head in float32, one at a time, as well as all at once."""
    source, _, target, _ = domains()
    found = components.tca(source, target, k=3, mu=1.0, landmarks=landmarks, rng=np.random.default_rng(0))
    one = target[7:8].astype(np.float32)
    for stage in found.stages():
        one = stage(one)
    np.testing.assert_allclose(one, found(target)[7:8], rtol=1e-3, atol=1e-3 * np.abs(found(target)).max())


# --- joint distribution adaptation


def test_jda_with_true_labels_solves_the_papers_eigenproblem():
    source, labels, target, truth = domains(30, 24)
    found = components.jda(source, labels, target, k=2, mu=0.5, rounds=2, classify=lambda *_: truth)
    both = np.vstack([source, target])
    both = both / np.sqrt(np.square(both).sum(1).mean())
    e = np.r_[np.full(30, 1 / 30), np.full(24, -1 / 24)]
    m = np.outer(e, e) * 3
    for c in range(3):
        e = np.r_[(labels == c) / 10, (truth == c) / -8]
        m += np.outer(e, e)
    m /= np.linalg.norm(m)
    centring = np.eye(54) - 1 / 54
    _, axes = eigh(both.T @ centring @ both, both.T @ m @ both + 0.5 * np.eye(6))
    expected = both @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(np.vstack([found(source), found(target)])), np.abs(expected), rtol=1e-6)


def test_a_class_that_nothing_is_taken_for_pulls_nowhere():
    source, labels, target, truth = domains()
    found = components.jda(
        source,
        labels,
        target,
        k=2,
        mu=1.0,
        rounds=3,
        classify=lambda *_: np.zeros_like(truth),
    )
    assert np.isfinite(found(target)).all()


# --- all of them


@pytest.mark.parametrize("method", ["subspace_alignment", "coral", "tca", "jda"])
def test_it_beats_the_source_alone_under_a_shift_that_it_is_made_for(method):
    rng = np.random.default_rng(1)
    n, width = 240, 10
    labels = np.arange(n) % 3
    centres = np.zeros((3, width))
    centres[1, 0], centres[2, 1] = 9, 5  # not alike, or nobody could say which of the target's is which
    source = centres[labels] + rng.normal(size=(n, width)) * 0.7
    target = centres[labels] + rng.normal(size=(n, width)) * 0.7
    if method in {"subspace_alignment", "coral"}:  # the same, seen from elsewhere and fainter
        slope = 0.1 * rng.normal(size=(width, width))
        target = target @ expm(slope - slope.T) * 0.7 + 3
    else:
        target[:, 5] += 12  # what differs between the domains says nothing about the class
        source[:, 5] += 3 * rng.normal(size=n)
    alone = (nearest_labels(source, labels, target) == labels).mean()
    here, there = project(method, source, labels, target)
    assert (nearest_labels(here, labels, there) == labels).mean() > alone + 0.05


def project(method, source, labels, target):
    rng = np.random.default_rng(0)
    if method == "subspace_alignment":
        aligned = subspaces.subspace_alignment(source, target, 4)
        return aligned.source(source), aligned.target(target)
    if method == "coral":
        return subspaces.coral(source, target, 1e-3)(source), target
    if method == "tca":
        found = components.tca(source, target, k=3, mu=1.0, rng=rng)
    else:
        found = components.jda(source, labels, target, k=3, mu=1.0, rounds=5, classify=nearest_labels)
    return found(source), found(target)


def test_the_nearest_item_is_found_in_blocks(monkeypatch):
    source, labels, target, _ = domains()
    expected = labels[np.linalg.norm(target[:, None] - source[None], axis=2).argmin(1)]
    np.testing.assert_array_equal(nearest_labels(source, labels, target), expected)
    monkeypatch.setattr("worker.engine.methods.maths.neighbours._BLOCK", 200)
    np.testing.assert_array_equal(nearest_labels(source, labels, target), expected)
    assert len(nearest_labels(source, labels, target[:0])) == 0
