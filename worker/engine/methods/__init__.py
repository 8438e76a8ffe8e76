"""The methods by name. Each has `run(task)`, which trains and hands back a head and, if it was trained, a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.engine.backbones import Base
from worker.engine.methods import auto, fine_tune, linear_probe, rank_base_models
from worker.engine.task import Finding, Trained


@dataclass(frozen=True)
class Method:
    """What the engine has to know of a method; options are of the method's own class."""

    run: Callable[[Any], Trained | Finding]
    """Takes a `Task`, or an `Exploration` where the method `explores`."""
    needs_features: Callable[[Any], bool] = lambda _options: True
    """Whether it works on the frozen base model's features."""
    check: Callable[[Any, Base], None] = lambda _options, _base: None
    """Refuses options that do not fit the base model, before anything is computed."""
    explores: bool = False
    """Whether it looks at several base models and makes none: there is no base model to start from then."""


METHODS: dict[str, Method] = {
    "auto": Method(auto.run),
    "linear_probe": Method(linear_probe.run),
    "fine_tune": Method(fine_tune.run, fine_tune.needs_features, fine_tune.check),
    "rank_base_models": Method(rank_base_models.run, explores=True),
}
