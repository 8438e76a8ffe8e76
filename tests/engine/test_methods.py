"""The engine's registry is whole."""

from core.contract.methods import METHODS as MENU
from worker.engine.job import _SHARES
from worker.engine.methods import METHODS
from worker.engine.notes import about_probe


def test_every_method_of_the_menu_is_built():
    assert set(METHODS) == set(MENU) == set(_SHARES)
    assert len(METHODS) >= 2


def test_a_trained_model_is_compared_with_the_probe_in_words():
    assert "as many" in about_probe(0.9, 0.9, 50)
    assert "right on 3 more than a linear probe" in about_probe(0.9, 0.96, 50)
    assert "right on 2 fewer than a linear probe" in about_probe(0.9, 0.86, 50)
