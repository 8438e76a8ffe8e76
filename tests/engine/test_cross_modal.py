"""Images answered by the names of classes, through an image and a text encoder that are aligned on pairs."""

import numpy as np
import pytest

from core.contract.errors import JobError
from core.contract.methods import CrossModal
from worker.engine.methods import cross_modal
from worker.engine.methods.cross_modal import Pairs
from worker.engine.methods.maths import crossing, ridge

SHAPES, COLOURS = 4, 4
CLASSES = [f"{colour}_{shape}" for colour in "rgby" for shape in ("disc", "ring", "bar", "star")]
UNSEEN = (0, 5, 10, 15)
"""Classes of which nothing is paired: each has a colour and a shape that others have, too."""


def world(*, seed: int = 0, noise: float = 0.3, each: int = 12) -> tuple[Pairs, np.ndarray]:
    """Texts and images as features of colour and shape, mixed in different ways; and the images' classes."""
    rng = np.random.default_rng(seed)
    meaning = np.concatenate([np.repeat(np.eye(COLOURS), SHAPES, axis=0), np.tile(np.eye(SHAPES), (COLOURS, 1))], 1)
    to_text, to_image = rng.normal(size=(8, 24)), rng.normal(size=(8, 40))
    labels = np.tile(np.arange(16), each)

    def features(weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return (meaning[rows] @ weight + 2 + noise * rng.normal(size=(len(rows), weight.shape[1]))).astype(np.float32)

    texts, images, named = features(to_text, labels), features(to_image, labels), features(to_text, np.arange(16))
    paired = np.flatnonzero(~np.isin(labels, UNSEEN))
    rows = np.stack([paired, paired], 1)
    return Pairs(texts, labels, images, rows, np.arange(len(labels)), named, ("text", "image")), labels


def right(found: cross_modal.Crossed, pairs: Pairs, labels: np.ndarray) -> float:
    unseen = np.isin(labels, UNSEEN)
    return float((found.head(pairs.xt[unseen]).argmax(1) == labels[unseen]).mean())


def fit(pairs: Pairs, **options: object) -> cross_modal.Crossed:
    return cross_modal.fit(pairs, CrossModal.model_validate(options), CLASSES, np.random.default_rng(0))


@pytest.mark.parametrize("prototypes", ["auto", "names", "examples", "both"])
def test_classes_of_which_nothing_is_paired_are_answered_by_name(prototypes: str) -> None:
    pairs, labels = world()
    found = fit(pairs, prototypes=prototypes)
    assert right(found, pairs, labels) > 0.7  # chance is 1/16
    assert found.options["pairs"] == 144
    assert any("No pair has the label of 4 classes" in note for note in found.notes)


def test_names_suffice_where_no_text_has_a_label_but_one_of_each_class() -> None:
    pairs, labels = world()
    sparse = np.full_like(labels, -1)
    sparse[-16:] = labels[-16:]
    few = Pairs(pairs.xs, sparse, pairs.xt, pairs.rows[:-12], pairs.alike, pairs.named, pairs.modalities)
    found = fit(few)
    assert right(found, few, labels) > 0.7
    assert found.options["prototypes"] == "both"
    assert np.isfinite(found.known).all(axis=1).sum() == len(few.rows)


def test_it_works_the_other_way_round() -> None:
    """Images are the source, texts the target: names go through the map then, and examples are images."""
    pairs, labels = world()
    seen = ~np.isin(labels, UNSEEN)
    turned = Pairs(pairs.xt, labels, pairs.xs, pairs.rows, pairs.alike, pairs.named, ("image", "text"))
    found = fit(turned, prototypes="names")
    assert (found.head(turned.xt).argmax(1) == labels)[seen].mean() > 0.9
    assert right(found, turned, labels) > 0.6


def test_pairs_of_nothing_in_common_are_told() -> None:
    pairs, labels = world()
    noise = np.random.default_rng(1).normal(size=pairs.xt.shape).astype(np.float32)
    found = fit(Pairs(pairs.xs, labels, noise, pairs.rows, pairs.alike, pairs.named, pairs.modalities))
    assert any("hardly understood" in note for note in found.notes)
    assert not any("hardly understood" in note for note in fit(pairs).notes)


def test_too_few_pairs_are_refused() -> None:
    pairs, labels = world()
    with pytest.raises(JobError) as caught:
        fit(Pairs(pairs.xs, labels, pairs.xt, pairs.rows[:9], pairs.alike, pairs.named, pairs.modalities))
    assert (caught.value.code, caught.value.param) == ("too_few_pairs", "target")


def test_what_is_left_out_is_what_refitting_gives() -> None:
    """Against brute force: for groups of one, two and three pairs."""
    rng = np.random.default_rng(0)
    x, y, group = rng.normal(size=(12, 5)), rng.normal(size=(12, 3)), np.array([0, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 0])
    parts = ridge.decompose(x, y)
    found = crossing.left_out(parts, 0.3, group)
    for number in np.unique(group):
        out = group == number
        rest = ridge.decompose(x[~out], y[~out])
        weight, bias = ridge.solve(rest, 0.3 * 12 / (~out).sum())
        np.testing.assert_allclose(found[out], x[out] @ weight.T + bias, rtol=1e-6)


def test_classes_that_are_in_no_pair_are_favoured_as_leaving_classes_out_says() -> None:
    """Two classes are paired, one is not: cosines tell what is new only if 0.3 to 0.6 are added to them."""
    truth = np.array([0, 1] * 10)
    seen = np.where(np.eye(3)[truth] > 0, 0.8, [0.0, 0.0, 0.2])
    unseen = np.where(np.eye(3)[truth] > 0, 0.4, [0.7, 0.7, 0.0])
    found = crossing.favour(seen, unseen, truth, np.array([False, False, True]))
    assert 0.3 < found < 0.6
    assert crossing.favour(seen, np.zeros((20, 3)) - np.eye(3)[truth] * 9, truth, np.array([False, False, True])) == 0


def test_the_rank_of_a_partner_is_counted() -> None:
    partners = np.eye(3)
    made = np.array([[1, 0.5, 0.2], [1, 0.5, 0.2], [1, 0.5, 0.2]])
    found = crossing.reciprocal_rank(made, partners, np.array([0, 1, 2]), np.zeros(3))
    assert found == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_words_stand_for_classes() -> None:
    options = CrossModal(class_names=["big dog", "cat"], template="a drawing of one {}.")
    assert cross_modal.sentences(["n1", "n2"], options) == ["a drawing of one big dog.", "a drawing of one cat."]
    assert cross_modal.sentences(["red_disc"], CrossModal()) == ["a photo of a red disc"]
