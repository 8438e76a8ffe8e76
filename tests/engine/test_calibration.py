"""Temperature scaling: what it must find, and what it must survive."""

import numpy as np
import pytest
from scipy.optimize import minimize

from worker.engine import calibration, metrics


def _items(n: int = 4000, scale: float = 1.0):
    """Logits whose softmax is the true distribution, then scaled."""
    rng = np.random.default_rng(3)
    logits = 2 * rng.normal(size=(n, 4))
    probabilities = metrics.softmax(logits)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.25, 1.0, 5.0])
def test_it_finds_the_scale_that_was_put_in(scale):
    logits, labels = _items(scale=scale)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(scale, rel=0.08)


def test_it_is_the_minimum():
    logits, labels = _items(scale=3.0)
    best = minimize(lambda t: metrics.nll(logits, labels, np.exp(t[0])), [0.0], tol=1e-10)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(np.exp(best.x[0]), rel=1e-2)
    assert calibration.calibrated_nll(logits, labels) == pytest.approx(best.fun, abs=1e-5)


def test_faultless_items_do_not_drive_it_to_zero():
    logits = 3 * np.eye(2)[np.array([0, 1] * 6)]
    temperature = calibration.fit_temperature(logits, np.array([0, 1] * 6))
    assert 0.1 < temperature < 1.0
    assert calibration.fit_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int)) == 1.0


def test_expected_calibration_error_by_hand():
    # Confidences .9 .9 .6 .6, right: yes no yes yes. Bins: |.5-.9| * 2/4 + |1-.6| * 2/4 = .4
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    table = calibration.reliability(probabilities, np.array([0, 1, 0, 1]))
    assert table.ece == pytest.approx(0.4)
    assert table.count.sum() == 4
    assert table.count[13] == 2
    assert table.accuracy[13] == 0.5
    assert table.count[8] == 2


def test_scaling_lowers_the_error_of_overconfident_logits():
    logits, labels = _items(scale=5.0)
    temperature = calibration.fit_temperature(logits, labels)
    before = calibration.reliability(metrics.softmax(logits), labels).ece
    after = calibration.reliability(metrics.softmax(logits, temperature), labels).ece
    assert before > 0.1
    assert after < 0.03


def test_certainty_stands_in_the_last_bin():
    table = calibration.reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert table.count[-1] == 1
    assert table.ece == 0.0
