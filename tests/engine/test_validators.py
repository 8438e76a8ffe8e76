"""What target and answers say without labels: against scikit-learn, plain loops and cases with a known answer."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import NearestCentroid

from worker.engine.adaptation import validators

RNG = np.random.default_rng(0)


def lumps(classes: int = 4, per_class: int = 25, width: int = 12) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(classes), per_class)
    return rng.normal(size=(classes, width))[y] + 0.3 * rng.normal(size=(len(y), width)), y


def test_evenness_is_none_for_one_class_and_whole_for_all_alike() -> None:
    assert validators.evenness(np.zeros(9, dtype=np.int64), 3) == pytest.approx(0)
    assert validators.evenness(np.tile(np.arange(3), 3), 3) == pytest.approx(1)
    assert validators.lost_classes(np.array([0, 2, 2]), 4).tolist() == [1, 3]


def test_information_is_most_for_answers_sure_of_each_and_even_in_all() -> None:
    sure, unsure, one = 50 * np.eye(3)[np.arange(30) % 3], np.zeros((30, 3)), 50 * np.eye(3)[np.zeros(30, int)]
    assert validators.information(sure) == pytest.approx(1)
    assert validators.information(unsure) == pytest.approx(0)
    assert validators.information(one) == pytest.approx(0, abs=1e-6)


def test_agreement_beyond_chance_is_cohens_kappa() -> None:
    first, second = RNG.integers(0, 4, 200), RNG.integers(0, 4, 200)
    second[:120] = first[:120]
    assert validators.beyond_chance(first, second, 4) == pytest.approx(cohen_kappa_score(first, second))
    assert validators.agreement(first, first) == 1


def test_nearest_mean_leaves_the_item_itself_out() -> None:
    z, y = lumps(per_class=6)
    y = RNG.permutation(y)
    said = [
        NearestCentroid().fit(np.delete(z, i, axis=0), np.delete(y, i)).predict(z[i : i + 1])[0] for i in range(len(y))
    ]
    known = validators.beyond_chance(np.array(said), y, 4)
    assert validators.nearest_mean_agreement(z, y, 4) == pytest.approx(known)


def test_structure_is_found_in_lumps_and_not_in_shuffled_labels() -> None:
    z, y = lumps()
    z = validators.centred(z, unit=False)
    shuffled = np.random.default_rng(2).permutation(y)
    for figure in (validators.nearest_mean_agreement, validators.neighbour_agreement):
        assert figure(z, y, 4) > 0.9
        assert abs(figure(z, shuffled, 4)) < 0.2
    assert validators.between_variance(z, y, 4) > 3 * validators.between_variance(z, shuffled, 4)


def test_between_variance_by_hand() -> None:
    z, y = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1])
    assert validators.between_variance(z, y, 2) == pytest.approx(100 / 104)


def test_kinship_is_one_for_a_moved_domain_and_none_for_an_unrelated_one() -> None:
    z, y = lumps()
    moved = validators.kinship(z, y, 3 * z + 7, y, 4)
    assert moved.mean == pytest.approx(1, abs=0.1)
    assert moved.misplaced == 0
    other = validators.kinship(z, y, np.random.default_rng(5).permutation(z.T).T, y, 4)
    assert abs(other.mean) < 0.5
    turned = validators.kinship(z, y, -z, y, 4)
    assert turned.mean < -0.9
    assert turned.misplaced == 1


def test_a_class_that_was_made_up_lies_where_another_one_should() -> None:
    z, y = lumps()
    fewer = z[y != 3]
    invented = y[y != 3].copy()
    invented[:10] = 3  # ten items of class 0
    found = validators.kinship(z, y, fewer, invented, 4)
    assert found.margins[3] < 0
    assert found.misplaced >= 0.25


def test_kinship_of_fewer_than_two_common_classes_is_none() -> None:
    z, y = lumps()
    assert validators.kinship(z, y, z, np.zeros_like(y), 4).mean == 0


def test_domain_weights_are_the_density_ratio_and_equal_without_a_shift() -> None:
    rng = np.random.default_rng(3)
    zs, zt = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) + np.array([1.0, 0, 0])
    found = validators.domain_weights(zs, zt)
    true = np.exp(zs[:, 0] - 0.5)
    assert np.corrcoef(np.log(found.weights), np.log(true))[0, 1] > 0.95
    assert found.weights.mean() == pytest.approx(1)
    assert 0.1 < found.effective < 0.9
    assert validators.domain_weights(zs, rng.normal(size=(300, 3))).effective > 0.9


def test_scores_of_domains_are_those_of_logistic_regression() -> None:
    z, y = RNG.normal(size=(120, 4)), np.repeat([0.0, 1.0], 60)
    z[60:] += 0.5
    known = LogisticRegression(C=1.0, tol=1e-8).fit(z, y).decision_function(z)
    assert np.allclose(validators._logistic(z, y), known, atol=1e-3)


def test_weighted_risk_counts_items_as_they_weigh_and_leaves_unknown_rows_out() -> None:
    logits = np.array([[1.0, 0], [1, 0], [0, 1], [np.nan, np.nan]])
    assert validators.weighted_risk(logits, np.array([0, 1, 1, 0]), np.array([1.0, 3, 1, 9])) == pytest.approx(0.6)
    assert validators.accuracy(logits, np.array([0, 1, 1, 0])) == pytest.approx(2 / 3)
    assert np.isnan(validators.weighted_risk(logits[3:], np.array([0]), np.array([1.0])))
