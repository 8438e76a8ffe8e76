"""The methods by name. Each has `run(task)`, which trains and hands back a head and, if it was trained, a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.engine.backbones import Base
from worker.engine.methods import fine_tune, linear_probe
from worker.engine.task import Finding, Task, Trained


@dataclass(frozen=True)
class Method:
    """What the engine has to know of a method; options are of the method's own class."""

    run: Callable[[Task], Trained | Finding]
    needs_features: Callable[[Any], bool] = lambda _options: True
    """Whether it works on the frozen base model's features."""
    check: Callable[[Any, Base], None] = lambda _options, _base: None
    """Refuses options that do not fit the base model, before anything is computed."""


METHODS: dict[str, Method] = {
    "linear_probe": Method(linear_probe.run),
    "fine_tune": Method(fine_tune.run, fine_tune.needs_features, fine_tune.check),
}
