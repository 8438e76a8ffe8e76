"""Optimal transport against POT's own forms, linear programming and hand counting."""

import numpy as np
import ot
import pytest

from worker.engine.methods.maths import transport
from worker.engine.methods.maths.neighbours import nearest_labels


def domains(n=60, m=60, width=4, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.zeros((3, width))
    centres[1, 0], centres[2, 1] = 6, 5
    source = centres[labels] + rng.normal(size=(n, width)) * 0.7
    truth = np.arange(m) % 3
    target = centres[truth] * [0.8, 1.3, 1, 1] + rng.normal(size=(m, width)) * 0.7 + 3
    return source, labels, target, truth


def test_the_linear_map_carries_mean_and_covariance_exactly():
    source, _, target, _ = domains()
    moved = transport.linear_ot(source, target, 0.0)(source)
    np.testing.assert_allclose(moved.mean(0), target.mean(0))
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), atol=1e-6)


def test_the_linear_map_is_the_gradient_of_a_convex_function_and_equals_pots():
    source, _, target, _ = domains()
    found = transport.linear_ot(source, target, 0.0)
    np.testing.assert_allclose(found.weight, found.weight.T, atol=1e-10)
    assert np.linalg.eigvalsh(found.weight).min() > 0
    # Symmetric, positive and onto the covariance: only the optimal map is all three.
    weight, bias = ot.gaussian.empirical_bures_wasserstein_mapping(source, target, reg=1e-12)
    np.testing.assert_allclose(source @ weight + bias, found(source), atol=1e-5)


def test_regularisation_pulls_the_map_towards_a_mere_move():
    source, _, target, _ = domains()
    far = transport.linear_ot(source, target, 1e6)
    np.testing.assert_allclose(far.weight, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(far(source).mean(0), target.mean(0), atol=1e-6)


def test_the_plan_has_uniform_marginals_and_little_entropy_is_near_the_exact_plan():
    source, _, target, _ = domains(40, 50)
    cost = ot.dist(source, target)
    cost /= np.median(cost)
    plan, level = transport._plan(cost, 0.005)
    assert level == 0.005
    np.testing.assert_allclose(plan.sum(0), 1 / 50, rtol=0.02)
    np.testing.assert_allclose(plan.sum(1), 1 / 40, rtol=0.02)
    exact = ot.emd2([], [], cost)
    assert exact <= (plan * cost).sum() + 1e-3
    assert (plan * cost).sum() == pytest.approx(exact, rel=0.05)


def test_the_plan_equals_the_plain_iteration():
    source, _, target, _ = domains(20, 25)
    cost = ot.dist(source, target)
    cost /= np.median(cost)
    kernel = np.exp(-cost / 0.1)
    u, v = np.ones(20), np.ones(25)
    for _ in range(2000):
        u = 1 / 20 / (kernel @ v)
        v = 1 / 25 / (kernel.T @ u)
    np.testing.assert_allclose(transport._plan(cost, 0.1)[0], u[:, None] * kernel * v, atol=1e-6)


def test_too_little_entropy_is_raised_until_a_plan_is_found():
    source, labels, target, _ = domains(30, 30)
    found = transport.sinkhorn(source, labels, target, regularisation=1e-7, class_penalty=0.0, rng=rng())
    assert np.isfinite(found.items).all()
    assert found.regularisation > 1e-7


def rng():
    return np.random.default_rng(0)


def test_items_go_to_barycentres_within_the_target():
    source, labels, target, _ = domains()
    found = transport.sinkhorn(source, labels, target, regularisation=0.05, class_penalty=0.0, rng=rng())
    assert (found.items >= target.min(0) - 1e-9).all()
    assert (found.items <= target.max(0) + 1e-9).all()
    plan = np.array([[0.5, 0.0], [0.1, 0.4]])
    expected = [[0, 0], [0.8, 1.6]]
    np.testing.assert_allclose(transport.barycentres(plan, np.array([[0, 0], [1, 2]])), expected)


def test_a_class_penalty_keeps_classes_from_sharing_target_items():
    source, labels, target, _ = domains()
    cost = ot.dist(source, target)
    cost /= np.median(cost)

    def shared(penalty):
        plan, _ = transport.class_plan(cost, labels, 0.2, penalty)
        mass = np.array([plan[labels == c].sum(0) for c in range(3)])
        return 1 - (mass.max(0) / mass.sum(0)).mean()

    assert shared(0.3) < 0.5 * shared(0.0)


def test_many_items_are_thinned():
    source, labels, target, _ = domains(90, 80)
    found = transport.sinkhorn(source, labels, target, regularisation=0.05, class_penalty=0.1, most=30, rng=rng())
    assert found.items.shape == (30, 4)
    assert len(np.unique(found.rows)) == 30
    assert set(labels[found.rows]) == {0, 1, 2}


@pytest.mark.parametrize("method", ["linear", "sinkhorn", "classes"])
def test_it_beats_the_source_alone(method):
    source, labels, target, truth = domains(150, 150)
    alone = (nearest_labels(source, labels, target) == truth).mean()
    if method == "linear":
        moved, rows = transport.linear_ot(source, target, 0.01)(source), np.arange(150)
    else:
        penalty = 0.1 if method == "classes" else 0.0
        found = transport.sinkhorn(source, labels, target, regularisation=0.05, class_penalty=penalty, rng=rng())
        moved, rows = found.items, found.rows
    assert (nearest_labels(moved, labels[rows], target) == truth).mean() > alone + 0.1


def test_an_item_that_no_plan_had_goes_where_its_neighbours_went():
    source, labels, target, _ = domains(150, 150)
    found = transport.sinkhorn(source, labels, target, regularisation=0.05, class_penalty=0.0, rng=rng())
    path = transport.follow(source[:100], found.items[:100])
    missed = np.linalg.norm(path(source[100:]) - found.items[100:], axis=1).mean()
    assert missed < 0.4 * np.linalg.norm(source[100:] - found.items[100:], axis=1).mean()


def test_constant_items_are_survived():
    same = np.ones((5, 3))
    found = transport.sinkhorn(same, np.array([0, 1, 0, 1, 0]), same, regularisation=0.1, class_penalty=0.1, rng=rng())
    np.testing.assert_allclose(found.items, 1)
    assert np.isfinite(transport.linear_ot(same, same, 0.0)(same)).all()
