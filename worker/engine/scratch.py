"""`from_scratch`: the same network from random weights, trained as the method trains: what pretraining is worth."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.contract.jobs import JobSpec
from core.contract.methods import FineTune
from core.contract.prepare import ImagePrepare
from worker.engine.arms import ArmRun, of_method
from worker.engine.backbones import Base
from worker.engine.checkpoint import Checkpoints
from worker.engine.methods import fine_tune
from worker.engine.steps import Steps
from worker.engine.task import Task

NAME = "from_scratch"
_ROWS = 2000  # training rows up to which a table's network is trained from scratch without being asked for
_SLACK, _ROOM = 1.5, 0.8  # predicted seconds may be wrong by so much; measuring and exporting take the rest


def reason_against(task: Task, spec: JobSpec, trained_seconds: float) -> str:
    """Why the network is not trained from scratch; empty where it is to be."""
    identity, tuned = task.base.identity, isinstance(task.options, FineTune)
    if isinstance(task.options, FineTune) and task.options.init == "scratch":
        return "The method itself starts from random weights."
    if tuned and identity.card.weights.source == "none" and len(identity.lineage) < 2:
        return "The base model has no pretrained weights: the method itself starts from random ones."
    if task.wishes.stop():
        return "The job was asked to finish."
    if spec.baselines == "all" or (identity.card.modality == "tabular" and len(task.data.train) <= _ROWS):
        return ""
    return _too_dear(task, spec.budget.max_seconds if tuned else None, _SLACK * trained_seconds)


def _too_dear(task: Task, limit: float | None, needed: float) -> str:
    """It takes as long as the method's own training did: too long without a budget that leaves room for it."""
    if limit is None:
        return "It costs as much as a training of its own; `baselines: all` asks for it."
    left = max(0.0, limit - task.steps.seconds())
    return "" if needed <= _ROOM * left else f"It would need about {needed:.0f} s of the {left:.0f} s that are left."


def run(task: Task, base: Base, out: Path) -> ArmRun:
    """Train it; `base` is the architecture with random weights."""
    begun = time.monotonic()
    # A run that goes on elsewhere trains this arm again: the job's one checkpoint is the method's.
    checkpoints = Checkpoints(out, _silent, {}, every=float("inf"))
    own = replace(
        task,
        options=options(task),
        base=base,
        features=task.features.of(base),
        steps=Steps(_silent, {"train": 1.0}),
        sink=_silent,
        checkpoints=checkpoints,
    )
    trained = fine_tune.run(own)
    arm = of_method(own, trained, time.monotonic() - begun)
    return replace(arm, name=NAME, role="baseline")


def options(task: Task) -> FineTune:
    """The method's own options from random weights; of a probe, which has none, the defaults."""
    image = isinstance(task.base.identity.card.prepare, ImagePrepare)
    own = task.options
    plain = FineTune(augmentation="light" if image else "none")
    found = own if isinstance(own, FineTune) else plain
    return found.model_copy(update={"init": "scratch", "freeze": "none"})


def _silent(kind: Any, data: dict[str, Any]) -> None:
    """Its epochs are not the method's: they would stand in the same curve."""
