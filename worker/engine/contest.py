"""The contest of a job: all arms measured, one judged, the best one served."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.few_shot import EpisodeReport
from core.contract.jobs import JobSpec
from core.contract.shifts import Shift
from core.contract.verdicts import Arm, Difference, Judgement
from worker.engine import arms, judge, lineage, paired, scratch, verdict_words
from worker.engine.arms import CONSTANT, ArmRun, attempt
from worker.engine.backbones import Base
from worker.engine.calibration import calibrated_nll
from worker.engine.data import JobData
from worker.engine.door import Inputs
from worker.engine.frozen import FrozenFeatures
from worker.engine.judge import Contender
from worker.engine.problems import score_name
from worker.engine.task import Task, Trained


class OpenBase(Protocol):
    """Opens the job's base model anew, with its pretrained weights or with random ones."""

    def __call__(self, *, pretrained: bool) -> Base:
        """The base model."""


@dataclass(frozen=True)
class Ground:
    """What the arms of a job stand on."""

    task: Task
    spec: JobSpec
    inputs: Inputs
    open_base: OpenBase
    out: Path
    train_seconds: float


@dataclass(frozen=True)
class Contest:
    """What came out."""

    served: ArmRun
    arms: list[Arm]
    judgement: Judgement | None
    shift: Shift | None = None
    """Of a job that adapts."""
    episodes: EpisodeReport | None = None
    """Of a job that is measured on episodes."""


def hold(ground: Ground, trained: Trained) -> Contest:
    """Measure all arms, judge the method, choose what is served.

    Served is what is best on the choosing items, of the method and the best baseline; where they say the same, what has
    the better loss there. A verdict of `improved` or `harmful` on the held-out items overrules that. A constant answer
    is served only where the method does harm: who asks for a model is not given one that looks at nothing, for no
    better reason than that nothing could be learnt, or shown to be. With the guard off the method is served whatever
    comes out. Other methods that were raced are told, and compared with nobody.
    """
    task = ground.task
    method = arms.of_method(task, trained, ground.train_seconds)
    raced = [arms.of_race(task, one) for one in trained.raced if not one.won and one.name != "linear_probe"]
    baselines = [] if ground.spec.baselines == "none" else _baselines(ground, method)
    runs = [method, *raced, *baselines]
    measured = [arm for arm in baselines if arm.state == "measured"]
    field = Field.of(task.data.merged(), runs)
    if not measured:
        return Contest(method, told(task, field, runs, {}, method), None)
    ruling = judge.judge(
        field.contenders[method.name],
        [field.contenders[arm.name] for arm in measured],
        task.data.problem,
        task.data.held_out.labels,
        task.data.classes,
        rng=task.rng(),
    )
    rival = next(arm for arm in measured if arm.name == ruling.judgement.baseline)
    better = _better(method, rival, field, ruling.judgement)
    served = method if ground.spec.guard == "off" else better
    judgement = ruling.judgement.model_copy(
        update={
            "served": served.name,
            "overridden": served is not better,
            "sentence": f"{ruling.judgement.sentence} {serving(served, better)}".strip(),
            "forgetting": lineage.forgetting(task, ground.inputs, served),
        }
    )
    return Contest(served, told(task, field, runs, ruling.differences, served), judgement)


@dataclass(frozen=True)
class Field:
    """All arms that were measured, as the judge sees them."""

    merged: JobData
    known: NDArray[np.bool_]
    """Choosing rows (n,) that every arm answers which answers any."""
    contenders: dict[str, Contender]

    @classmethod
    def of(cls, merged: JobData, runs: list[ArmRun]) -> "Field":
        """Of the arms that are measured."""
        measured = [arm for arm in runs if arm.state == "measured"]
        finite = {arm.name: np.isfinite(arm.choosing).all(axis=1) for arm in measured}
        known = np.full(len(merged.train), any(rows.any() for rows in finite.values()))
        for rows in finite.values():
            known &= rows | ~rows.any()
        found = {arm.name: _contender(arm, merged, np.logical_and(known, finite[arm.name])) for arm in measured}
        return cls(merged, known, found)


def _contender(arm: ArmRun, merged: JobData, honest: NDArray[np.bool_]) -> Contender:
    return Contender(
        arm.name,
        paired.answers(merged.problem, arm.held_out, merged.held_out.labels),
        paired.answers(merged.problem, arm.choosing[honest], merged.train.labels[honest]),
        constant=arm.name in CONSTANT,
    )


def serving(served: ArmRun, better: ArmRun) -> str:
    if served is not better:
        return f"The method's model is served although {verdict_words.arm(better.name)} is better: the guard was off."
    return "" if served.role == "method" else f"Served is {verdict_words.arm(served.name)}."


def _baselines(ground: Ground, method: ArmRun) -> list[ArmRun]:
    """Those that make sense for the method and the data, the simplest last."""
    task, merged = ground.task, ground.task.data.merged()
    from_scratch = getattr(task.options, "init", "pretrained") == "scratch"
    frozen, reason = pretrained(ground) if from_scratch else (task.features, "")
    found: list[ArmRun] = []
    if ground.inputs.parent is not None and not reason:
        found.append(attempt(lineage.NAME, lambda: lineage.previous_model(task, ground.inputs, merged, frozen)))
    if reason:
        found.append(arms.skipped("linear_probe", reason))
    elif not method.is_probe:
        found.append(attempt("linear_probe", lambda: arms.probe(task, merged, frozen)))
    if merged.problem == "classification" and not reason:
        found.append(attempt("nearest_class_mean", lambda: arms.class_means(merged, frozen)))
    against = scratch.reason_against(task, ground.spec, ground.train_seconds)
    found.append(arms.skipped(scratch.NAME, against) if against else attempt(scratch.NAME, lambda: _scratch(ground)))
    constant = "mean" if merged.problem == "regression" else "majority"
    return [*found, attempt(constant, lambda: arms.constant(merged, task.features))]


def _scratch(ground: Ground) -> ArmRun:
    return scratch.run(ground.task, ground.open_base(pretrained=False), ground.out)


def pretrained(ground: Ground) -> tuple[FrozenFeatures, str]:
    """The pretrained base model, for a network from random weights to be compared with; or why it cannot be had."""
    own = ground.task.features
    if own.base.identity.card.weights.source == "none" and ground.inputs.parent is None:
        return own, "The base model has no pretrained weights."
    try:
        return own.of(ground.open_base(pretrained=True)), ""
    except JobError as error:
        return own, f"The pretrained weights cannot be had: {error.message}"


def _better(method: ArmRun, rival: ArmRun, field: Field, judgement: Judgement) -> ArmRun:
    """What should be served of the two."""
    if judgement.verdict in {"improved", "harmful"}:
        return method if judgement.verdict == "improved" else rival
    if rival.name in CONSTANT:
        return method
    ours, theirs = (field.contenders[arm.name].choosing.figure for arm in (method, rival))
    if math.isnan(ours) or math.isnan(theirs):
        return method
    if abs(ours - theirs) > 1e-9:
        return method if ours > theirs else rival
    labels = field.merged.train.labels[field.known]
    losses = [calibrated_nll(arm.choosing[field.known], labels, field.merged.problem) for arm in (method, rival)]
    return method if losses[0] <= losses[1] else rival


def told(task: Task, field: Field, runs: list[ArmRun], differences: dict[str, Difference], served: ArmRun) -> list[Arm]:
    rng = task.rng()
    rows = []
    for run in runs:
        row = Arm(
            name=run.name,
            role=run.role,
            state=run.state,
            metric=score_name(field.merged.problem),
            seconds=run.seconds,
            difference=differences.get(run.name),
            served=run is served,
            options=run.trained.options if run.trained is not None else {},
            note=run.note,
        )
        found = field.contenders.get(run.name)
        rows.append(row if found is None or not len(found.held_out) else row.model_copy(update=_figures(found, rng)))
    return rows


def _figures(found: Contender, rng: np.random.Generator) -> dict[str, float | None]:
    low, high = paired.interval(found.held_out, rng)
    validation = found.choosing.figure if len(found.choosing) else None
    return {"value": found.held_out.figure, "low": low, "high": high, "validation": validation}
