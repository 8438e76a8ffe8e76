"""What a method is given, and what it hands back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.methods import AnyMethod
from core.contract.reports import CurvePoint
from worker.engine.backbones import Backbone, Base
from worker.engine.checkpoint import Checkpoints
from worker.engine.data import JobData
from worker.engine.door import Sink
from worker.engine.few_shot.learnt import FewShotHead, Learnt
from worker.engine.frozen import FrozenFeatures
from worker.engine.heads import Head
from worker.engine.steps import Steps, Wishes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """One job as its method sees it."""

    options: AnyMethod
    data: JobData
    base: Base
    features: FrozenFeatures
    """Features (n, D) of the frozen base model, from the cache; embedded now if they are not there."""
    device: torch.device
    threads: int
    seed: int
    steps: Steps
    wishes: Wishes
    sink: Sink
    checkpoints: Checkpoints
    budget: float | None = None
    """Seconds that the job may take in all."""
    parent: Path | None = None
    """The bundle of the user's own model that the job starts from, if it does."""

    def rng(self) -> np.random.Generator:
        """A generator of the job's seed."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Finding:
    """What a method found out that makes no model, as fields of the report."""

    fields: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Raced:
    """One of several methods that a job has tried."""

    name: str
    trained: "Trained"
    seconds: float
    won: bool


@dataclass(frozen=True)
class Trained:
    """A trained model: a head on the frozen base model, or on a network that was trained with it."""

    data: JobData
    """The split as the method really used it."""
    head: Head
    backbone: Backbone | None = None
    """The network if it was trained, on the CPU; None where it is the base model as it was."""
    out_of_fold: Floats | None = None
    """Logits (n, C) that each training item gets from a fit without it; NaN where there is none."""
    axis: Literal["epoch", "log10_regularisation"] = "epoch"
    curve: list[CurvePoint] = field(default_factory=list)
    options: dict[str, object] = field(default_factory=dict)
    """What became of options that were left to the method, e.g. the regularisation."""
    on_source: Head | None = None
    """After adaptation: the head for source items, where they take another way than the target's."""
    few_shot: FewShotHead | None = None
    """Of a head whose classes are known by a few items each: what it takes to change them."""
    learnt: Learnt | None = None
    """What can be asked episodes, where that was trained or measured."""
    raced: list[Raced] = field(default_factory=list)
    """Where several methods were tried: all of them, this one included."""
    notes: list[str] = field(default_factory=list)
