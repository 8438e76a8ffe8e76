"""Guessing the target's labels: the maths against plain loops and scikit-learn, and a shifted toy that it solves."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from core.contract.methods import PrototypeSelfTraining, SelectivePseudoLabels
from worker.engine.methods import prototype_self_training, selective_pseudo_labels
from worker.engine.methods.adapting import Domains
from worker.engine.methods.maths import pseudo_labels as maths
from worker.engine.methods.maths.pseudo_labels import Prototypes, Selective

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
CLASSES, WIDTH = 4, 40


def domains(seed: int = 0, *, per_class: int = 30) -> tuple[Floats, Ints, Floats, Ints]:
    """Source and target features and classes: lumps, moved by a common shift, and turned and spread a little."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.normal(size=(CLASSES, WIDTH)) / np.sqrt(WIDTH) + 1.0
    y = np.repeat(np.arange(CLASSES), per_class)
    noise = 0.16 * rng.normal(size=(2, len(y), WIDTH))
    turn = np.linalg.qr(np.eye(WIDTH) + 0.12 * rng.normal(size=(WIDTH, WIDTH)))[0]
    turn = turn * np.sign(np.diag(turn))
    xs = means[y] + noise[0]
    xt = means[y] @ turn + noise[1] + 1.5 * rng.normal(size=WIDTH)
    return xs.astype(np.float32), y, xt.astype(np.float32), y


def source_only(xs: Floats, ys: Ints, xt: Floats) -> Ints:
    means = np.stack([xs[ys == c].mean(axis=0) for c in range(CLASSES)])
    return np.asarray(np.square(xt[:, None] - means).sum(axis=2).argmin(axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_both_methods_beat_the_source_alone_where_the_domain_has_moved(seed: int) -> None:
    xs, ys, xt, yt = domains(seed)
    before = (source_only(xs, ys, xt) == yt).mean()
    for guessed in (
        maths.selective(xs, ys, xt, CLASSES, Selective(axes=20)),
        maths.prototypes(xs, ys, xt, CLASSES, Prototypes()),
    ):
        after = (guessed.labels == yt).mean()
        assert after > max(before + 0.1, 0.95)
        assert np.mean(guessed.source(xs).argmax(axis=1) == ys) > 0.95


@pytest.mark.parametrize("unit", [True, False])
def test_heads_give_the_labels_that_were_guessed_and_answer_new_items(unit: bool) -> None:
    xs, ys, xt, yt = domains(1)
    seen, new = np.arange(len(yt)) % 2 == 0, np.arange(len(yt)) % 2 == 1
    for guessed in (
        maths.selective(xs, ys, xt[seen], CLASSES, Selective(axes=20), unit=unit),
        maths.prototypes(xs, ys, xt[seen], CLASSES, Prototypes(), unit=unit),
    ):
        assert (guessed.target(xt[seen]).argmax(axis=1) == guessed.labels).all()
        assert (guessed.target(xt[new]).argmax(axis=1) == yt[new]).mean() > 0.9


def test_two_classes_have_one_axis_and_keep_their_lengths() -> None:
    xs, ys, xt, yt = domains(2)
    kept = ys < 2
    guessed = maths.selective(xs[kept], ys[kept], xt[kept], 2, Selective(axes=10))
    assert guessed.target.normalise == "none"
    assert (guessed.labels == yt[kept]).mean() > 0.95
    assert (guessed.target(xt[kept]).argmax(axis=1) == guessed.labels).all()


@pytest.mark.parametrize("items", [25, 90])
def test_principal_axes_are_those_of_scikit_learn(items: int) -> None:
    x = np.random.default_rng(0).normal(size=(items, WIDTH)) * np.linspace(3, 0.5, WIDTH)
    axes, known = maths.principal_axes(x, 6), PCA(6, svd_solver="full").fit(x).components_.T
    assert np.allclose(np.abs((axes * known).sum(axis=0)), 1, atol=1e-6)


def test_discriminant_parts_the_classes_as_linear_discriminant_analysis_does() -> None:
    xs, ys, *_ = domains(3)
    x = xs.astype(np.float64)
    found = maths._Discriminant.fit(x, ys, CLASSES, 0.0)
    known = LinearDiscriminantAnalysis(solver="eigen").fit(x, ys)
    ours, theirs = x @ found.axes, x @ known.scalings_[:, : CLASSES - 1]
    for axes in (ours, theirs):
        axes -= axes.mean(axis=0)
    cosines = np.linalg.svd(np.linalg.qr(ours)[0].T @ np.linalg.qr(theirs)[0], compute_uv=False)
    assert np.allclose(cosines, 1, atol=1e-5)


def test_clusters_are_those_of_scikit_learn_from_the_same_start() -> None:
    xt, start = domains(4)[2], np.random.default_rng(0).choice(domains(4)[2], CLASSES, replace=False).astype(np.float64)
    known = KMeans(CLASSES, init=start, n_init=1, max_iter=20, tol=0).fit(xt.astype(np.float64))
    assert np.allclose(maths.nearest_means(xt.astype(np.float64), start), known.cluster_centers_, atol=1e-4)


def test_a_cluster_that_loses_its_items_stays() -> None:
    x, start = np.zeros((5, 2)), np.array([[0.0, 0.0], [9.0, 9.0]])
    assert np.array_equal(maths.nearest_means(x, start), start)


def test_the_surest_of_each_label_are_chosen() -> None:
    rng = np.random.default_rng(0)
    guesses, confidence = rng.integers(0, 3, 50), rng.random(50)
    for share in (0.1, 0.5, 1.0):
        chosen = maths.surest(guesses, confidence, share)
        for label in range(3):
            own = np.flatnonzero(guesses == label)
            best = own[np.argsort(-confidence[own])[: int(share * len(own) + 1e-9)]]
            assert set(np.flatnonzero(chosen & (guesses == label))) == set(best)


def test_without_rounds_prototypes_are_the_class_means_about_each_domains_mean() -> None:
    xs, ys, xt, _ = domains(5)

    def rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([row / np.linalg.norm(row) for row in x])

    a, b = (rows(rows(x) - rows(x).mean(axis=0)) for x in (xs.astype(float), xt.astype(float)))
    means = rows(np.stack([a[ys == c].mean(axis=0) for c in range(CLASSES)]))
    guessed = maths.prototypes(xs, ys, xt, CLASSES, Prototypes(rounds=0))
    assert np.allclose(guessed.target(xt), 10 * b @ means.T, atol=1e-4)
    assert np.allclose(guessed.source(xs), 10 * a @ means.T, atol=1e-4)


def test_methods_adapt_on_arrays_and_say_how_the_guesses_fell() -> None:
    xs, ys, xt, yt = domains(0)
    found = Domains(xs, ys, xt, np.full(len(xt), -1), CLASSES, [], [])
    selective = selective_pseudo_labels.fit(found, SelectivePseudoLabels(axes=20), np.random.default_rng(0))
    prototypes = prototype_self_training.fit(found, PrototypeSelfTraining(), np.random.default_rng(0))
    for adapted in (selective, prototypes):
        assert (adapted.head(xt).argmax(axis=1) == yt).mean() > 0.95
        assert "guessed per class" in adapted.notes[0]
