"""The geodesic between two subspaces, and the classifier on it."""

from dataclasses import replace

import numpy as np
import pytest

from core.contract.methods import Meda
from tests.engine.test_aligning import WIDTH, domains, right
from worker.engine.methods import meda
from worker.engine.methods.maths.kernels import kernel_map
from worker.engine.methods.maths.manifold import Wanted, aligned_weights, balance, geodesic, laplacian
from worker.engine.methods.maths.subspaces import principal

WANTED = Wanted(alignment=10.0, balance=0.5, smoothness=1.0, regularisation=0.1, neighbours=5, rounds=5)


def lengths_one(rng, count, width=6):
    x = rng.normal(size=(count, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_products_on_the_axes_are_the_integral_along_the_geodesic():
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(40, 9)) * scale for scale in (np.linspace(3, 1, 9), np.linspace(1, 3, 9)))
    begin, end = principal(source, 3)[1], principal(target, 3)[1]
    found = geodesic(begin, end)
    left, cosines, right_axes = np.linalg.svd(begin.T @ end)
    angle = np.arccos(cosines)
    begin, end = begin @ left, end @ right_axes.T
    across = (end - begin * cosines) / np.sin(angle)
    total, count = np.zeros((9, 9)), 4000
    for t in (np.arange(count) + 0.5) / count:
        at = begin * np.cos(t * angle) + across * np.sin(t * angle)
        total += at @ at.T / count
    np.testing.assert_allclose(found @ found.T, total, atol=1e-6)


def test_from_a_subspace_to_itself_the_geodesic_is_its_projection():
    x = np.random.default_rng(1).normal(size=(30, 7))
    axes = principal(x, 4)[1]
    found = geodesic(axes, axes)
    np.testing.assert_allclose(found @ found.T, axes @ axes.T, atol=1e-6)


def test_the_graph_says_nothing_of_answers_that_are_alike_everywhere():
    x = np.abs(lengths_one(np.random.default_rng(2), 50))
    found = laplacian(x, 5).toarray()
    np.testing.assert_allclose(found, found.T)
    spectrum = np.linalg.eigvalsh(found)
    assert spectrum[0] == pytest.approx(0, abs=1e-9)
    assert spectrum[-1] < 2
    assert laplacian(x[:1], 5).toarray() == [[1]]


def test_with_nothing_but_the_source_it_is_kernel_ridge_regression():
    rng = np.random.default_rng(3)
    x, labels = lengths_one(rng, 30), np.arange(20) % 3
    kernel = kernel_map(x, 0.5)
    alone = Wanted(alignment=0.0, balance=0.5, smoothness=0.0, regularisation=0.1, neighbours=5, rounds=3)
    weights = aligned_weights(kernel(x), x, labels, 3, alone)
    gram = kernel.values(x)
    expected = gram[:, :20] @ np.linalg.solve(gram[:20, :20] + 0.1 * np.eye(20), np.eye(3)[labels])
    np.testing.assert_allclose(kernel(x) @ weights, expected, atol=1e-5)


def test_the_means_of_both_domains_come_together_and_neighbours_are_answered_alike():
    rng = np.random.default_rng(4)
    x, labels = lengths_one(rng, 80), np.arange(40) % 3
    features = kernel_map(x, 0.5)(x)

    def told(**changes):
        weights = aligned_weights(features, x, labels, 3, Wanted(**(vars(WANTED) | changes)))
        answers = features @ weights
        gap = np.abs(answers[:40].mean(axis=0) - answers[40:].mean(axis=0)).max()
        return gap, np.trace(answers.T @ (laplacian(x, 5) @ answers))

    plain, aligned, smooth = told(alignment=0, smoothness=0), told(smoothness=0, balance=0), told(alignment=0)
    assert aligned[0] < 0.2 * plain[0]
    assert smooth[1] < 0.5 * plain[1]


def test_the_balance_is_of_classes_where_they_moved_and_of_the_whole_where_that_did():
    rng = np.random.default_rng(5)
    labels = np.arange(200) % 2
    x = rng.normal(size=(200, 4)) + 3 * labels[:, None] * np.array([1, 0, 0, 0])
    swapped = (
        rng.normal(size=(200, 4)) + 3 * labels[:, None] * np.array([0, 1, 0, 0]) + (1 - labels)[:, None] * [3, -3, 0, 0]
    )
    assert balance(x, labels, swapped, labels) > 0.5
    assert balance(x, labels, x[::-1], labels[::-1]) == pytest.approx(0.5)
    assert balance(x, labels, x + 5, 1 - labels) == pytest.approx(0.5, abs=0.05)


def test_a_part_of_the_items_will_do_as_landmarks():
    found, truth = domains(marked=True)
    whole = meda.fit(found, Meda(axes=4), np.random.default_rng(0), "tabular").head
    part = meda.fit(found, Meda(axes=4, landmarks=60), np.random.default_rng(0), "tabular").head
    assert [len(head.tensors()["before.2.landmarks"]) for head in (whole, part)] == [300, 60]
    assert (whole(found.xt).argmax(axis=1) == part(found.xt).argmax(axis=1)).mean() > 0.95
    assert right(part, found.xt, truth) > 0.9


@pytest.mark.parametrize("modality", ["image", "tabular"])
@pytest.mark.parametrize("target", [np.ones((1, WIDTH)), np.ones((9, WIDTH)), np.zeros((5, WIDTH))])
def test_a_target_that_is_all_alike_is_answered(target, modality):
    found, _ = domains(marked=True)
    few = replace(found, xt=target.astype(np.float32), audit=np.full(len(target), -1))
    made = meda.fit(few, Meda(), np.random.default_rng(0), modality)
    assert np.isfinite(made.head(few.xt)).all()
    assert right(made.source_head, found.xs, found.ys) > 0.9


def test_more_axes_than_there_are_is_no_error():
    found, truth = domains(marked=True)
    made = meda.fit(found, Meda(axes=400), np.random.default_rng(0), "tabular")
    assert right(made.head, found.xt, truth) > 0.5
