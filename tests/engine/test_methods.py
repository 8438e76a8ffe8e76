"""The engine's registry is whole."""

from core.contract.methods import METHODS as MENU
from worker.engine.methods.registry import METHODS


def test_every_method_of_the_menu_is_built():
    assert set(METHODS) == set(MENU)
    assert len(METHODS) >= 2
