"""What a method that is trained says of validation items, and whether that is better than what it began with."""

import math

import numpy as np

from core.contract.datasets import Problem
from core.contract.errors import JobError
from worker.engine.calibration import calibrated_nll, fit_temperature
from worker.engine.feeds import Floats
from worker.engine.heads import Head
from worker.engine.loop import Validation
from worker.engine.methods.supervised import Supervised
from worker.engine.problems import Targets, item_nll, score


def answers(method: Supervised, embedding: Floats, remedy: str) -> Floats:
    """Logits (n, C) of embeddings (n, D); `JobError` `non_finite_loss`."""
    head = finite(method, remedy)
    with np.errstate(all="ignore"):
        logits = head(embedding)
    if not np.isfinite(logits).all():
        raise diverged("The network's outputs are not finite.", remedy)
    return logits


def rated(logits: Floats, labels: Targets, problem: Problem) -> Validation:
    """The loss is the one after temperature scaling: a model is served calibrated, so its scale must not decide."""
    return Validation(calibrated_nll(logits, labels, problem), score(problem, logits, labels), problem)


def clearly_better(after: Floats, before: Floats, labels: Targets, problem: Problem) -> bool:
    """Whether logits (n, C) of two or more items lose less than others by more than one standard error."""
    lost, had = (
        item_nll(problem, logits, labels, fit_temperature(logits, labels, problem)) for logits in (after, before)
    )
    gain = had - lost
    return bool(gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain)))


def finite(method: Supervised, remedy: str) -> Head:
    """The head as it is to be served; `JobError` `non_finite_loss`."""
    try:
        return method.deployable()
    except ValueError as error:
        raise diverged("The trained weights are not finite.", remedy) from error


def diverged(what: str, remedy: str) -> JobError:
    """Training stopped making numbers."""
    return JobError(what, code="non_finite_loss", param="method", hint=remedy)
