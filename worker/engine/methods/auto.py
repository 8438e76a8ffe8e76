"""`auto`: a race of the methods that are worth running, within the budget.

A linear probe runs first: it costs next to nothing, and says what is left to gain. If that is something, the network is
fine-tuned from the probe (LP-FT: Kumar et al., ICLR 2022) until the time is up; for texts low-rank additions come last,
if time is left. The winner is the one that is best on items it did not learn from: the validation items, which for the
probe means its leave-one-out answers to them. No held-out item has a part in it.

With a target, methods that adapt are raced instead, without its labels: `worker.engine.adaptation.race`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.methods import Auto, FineTune, LinearProbe
from core.contract.methods.auto import RaceArm
from worker.engine.calibration import calibrated_nll
from worker.engine.methods import fine_tune, linear_probe
from worker.engine.problems import score, score_name
from worker.engine.steps import Until
from worker.engine.task import Finding, Raced, Task, Trained

USUAL_SECONDS = 600.0
_SHARE = 0.8  # of the job's budget: what is left is for measuring and exporting
_ENOUGH = 0.995  # a probe with such a score leaves nothing that could be measured
_LEAST = 5.0  # seconds in which a training may still come to something
_LORA = {"lora_rank": 16}
_NAMES: dict[RaceArm, str] = {"linear_probe": "linear_probe", "fine_tune": "fine_tune", "lora": "fine_tune (LoRA)"}


@dataclass(frozen=True)
class _Runner:
    """An arm that has run."""

    arm: RaceArm
    trained: Trained
    value: float
    """Score on the validation items."""
    loss: float
    seconds: float


def run(task: Task) -> Trained:
    """Race the arms; what is handed back is the winner's, with all runners in `raced`."""
    options = task.options
    assert isinstance(options, Auto)
    if task.data.target is not None:
        from worker.engine.adaptation import race  # it knows the methods, and this is one

        return race.run(task, _seconds(options, task))
    end = time.monotonic() + _seconds(options, task)
    runners: list[_Runner] = []
    notes: list[str] = []
    for arm in _wanted(options, task):
        reason = _reason_against(arm, options, runners, end)
        if reason:
            notes.append(f"`{_NAMES[arm]}` was not run: {reason}.")
            continue
        task.steps.say(f"Race: {_NAMES[arm]} runs.")
        runners.append(_run(arm, task, end))
        if task.wishes.stopped:
            break
    best = min(runners, key=lambda one: (-one.value, one.loss))
    name = score_name(task.data.problem)
    told = ", ".join(f"{_NAMES[one.arm]} {one.value:.4f} in {one.seconds:.1f} s" for one in runners)
    notes.append(f"Raced by {name} on validation items: {told}. The winner is {_NAMES[best.arm]}.")
    return replace(
        best.trained,
        options={"arms": [one.arm for one in runners], "winner": best.arm, **best.trained.options},
        notes=[*notes, *best.trained.notes],
        raced=[Raced(_NAMES[one.arm], one.trained, one.seconds, won=one is best) for one in runners],
    )


def _seconds(options: Auto, task: Task) -> float:
    if options.seconds != "auto":
        return float(options.seconds)
    return USUAL_SECONDS if task.budget is None else max(1.0, _SHARE * task.budget - task.steps.seconds())


def _wanted(options: Auto, task: Task) -> list[RaceArm]:
    if options.arms != "auto":
        order: list[RaceArm] = ["linear_probe", "fine_tune", "lora"]
        return [arm for arm in order if arm in options.arms]
    lora: list[RaceArm] = ["lora"] if task.data.source.modality == "text" else []
    return ["linear_probe", "fine_tune", *lora]


def _reason_against(arm: RaceArm, options: Auto, runners: list[_Runner], end: float) -> str:
    """Why an arm is not worth running; empty where it is."""
    if not runners or options.arms != "auto":
        return ""
    best = max(one.value for one in runners)
    if best >= _ENOUGH:
        return f"{best:.4f} is reached without it"
    left = end - time.monotonic()
    needed = max(_LEAST, *(one.seconds for one in runners)) if arm == "lora" else _LEAST
    return "" if left >= needed else f"{max(left, 0):.0f} s of the race's time are left"


def _run(arm: RaceArm, task: Task, end: float) -> _Runner:
    begun = time.monotonic()
    chosen = LinearProbe() if arm == "linear_probe" else FineTune.model_validate(_LORA if arm == "lora" else {})
    method: Callable[[Task], Trained | Finding] = linear_probe.run if arm == "linear_probe" else fine_tune.run
    wishes = task.wishes if arm == "linear_probe" else Until(task.wishes, end)
    trained = method(replace(task, options=chosen, wishes=wishes))
    assert isinstance(trained, Trained)
    logits, labels = _unseen(task, trained)
    problem, seconds = task.data.problem, time.monotonic() - begun
    if len(labels) == 0:
        return _Runner(arm, trained, -math.inf, math.inf, seconds)
    return _Runner(arm, trained, score(problem, logits, labels), calibrated_nll(logits, labels, problem), seconds)


def _unseen(task: Task, trained: Trained) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """What it says of the validation items without having learnt from them, and their targets."""
    from worker.engine.arms import logits_of  # it knows the methods, and this is one

    data = task.data
    if trained.out_of_fold is None:
        return logits_of(trained, data.validation, task.features, task.wishes.check), data.validation.labels
    rows = slice(len(data.train), None) if len(data.validation) else slice(None)
    logits, labels = trained.out_of_fold[rows], trained.data.train.labels[rows]
    known = np.isfinite(logits).all(axis=1)
    return logits[known], labels[known]
