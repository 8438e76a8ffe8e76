"""Figures against scikit-learn and against values worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from worker.engine import metrics


@pytest.fixture
def items():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 300)
    logits = rng.normal(size=(300, 5)) + 2 * np.eye(5)[truth]
    return truth, logits, logits.argmax(axis=1)


def test_wilson_agrees_with_the_published_example():
    # 15 of 148 (Newcombe, Statistics in Medicine 17, 1998, table I): 0.0624 to 0.1605.
    assert metrics.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    # 0 of 20 and 20 of 20 (same table): 0 to 0.1611, and its mirror image.
    assert metrics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert metrics.wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_confusion_and_class_figures_equal_scikit_learn(items):
    truth, _, predicted = items
    counts = metrics.confusion(truth, predicted, 5)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, predicted))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted)
    figures = metrics.per_class(counts)
    np.testing.assert_allclose(figures.precision, precision)
    np.testing.assert_allclose(figures.recall, recall)
    np.testing.assert_allclose(figures.f1, f1)
    np.testing.assert_array_equal(figures.support, support)
    assert float(metrics.macro_f1(counts)) == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_a_class_without_items_does_not_count_towards_macro_f1():
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    # F1 of the first class 2*3/(4+3), of the second 2*4/(4+5).
    assert float(metrics.macro_f1(counts)) == pytest.approx((6 / 7 + 8 / 9) / 2)


def test_nll_and_softmax_equal_scikit_learn(items):
    truth, logits, _ = items
    for temperature in (0.5, 1.0, 3.0):
        probabilities = metrics.softmax(logits, temperature)
        assert metrics.nll(logits, truth, temperature) == pytest.approx(log_loss(truth, probabilities))
    assert np.isfinite(metrics.nll(np.array([[1e4, -1e4]]), np.array([1])))


def test_the_bootstrap_of_macro_f1_agrees_with_drawing_items(items):
    truth, _, predicted = items
    low, high = metrics.macro_f1_interval(metrics.confusion(truth, predicted, 5), np.random.default_rng(1))
    rng = np.random.default_rng(2)
    draws = [rng.integers(0, len(truth), len(truth)) for _ in range(1000)]
    values = [f1_score(truth[draw], predicted[draw], average="macro") for draw in draws]
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.01)
    assert metrics.macro_f1_interval(np.diag([3, 4]), np.random.default_rng(0)) == (1.0, 1.0)


def test_the_bootstrap_is_repeatable_for_a_seed(items):
    counts = metrics.confusion(items[0], items[2], 5)
    first, second = (metrics.macro_f1_interval(counts, np.random.default_rng(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("n", [1, 7, 60, 1000])
def test_wilson_interval_holds_the_share_at_both_ends(n):
    assert metrics.wilson(n, n)[1] == 1.0
    assert metrics.wilson(0, n)[0] == 0.0
