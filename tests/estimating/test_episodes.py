"""What learning from episodes is foretold to take is what the worker's methods take."""

from importlib import import_module

import pytest

from core.contract.methods import METHODS
from core.contract.methods.episodic import MetaLearning
from core.estimating.episodes import USUAL

NAMES = [name for name, options in METHODS.items() if issubclass(options, MetaLearning)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_open_becomes_what_the_method_takes(name: str) -> None:
    module = import_module(f"worker.engine.methods.{name}")
    inner = getattr(module, "INNER", {})
    for kind, own in module.USUAL.items():
        told = USUAL[kind][name]
        steps = inner[kind].steps if inner else 0
        assert (told.ways, told.shots, told.queries) == (own.ways, own.shots, own.queries)
        assert (told.tasks, told.steps, told.inner) == (own.tasks, own.steps, steps)


def test_every_method_of_every_kind_is_told_of() -> None:
    assert len(NAMES) == 8
    assert all(set(usual) == set(NAMES) for usual in USUAL.values())
