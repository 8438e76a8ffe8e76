"""How well one base model's frozen features suit labels, without training it: probe, neighbours, LogME, H-score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality, Problem
from core.contract.methods import LinearProbe
from worker.engine.methods.linear_probe import Control, Fitted, fit
from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.methods.maths.relevance import h_score, logme, nearest_neighbours
from worker.engine.paired import Answers, answers
from worker.engine.problems import Targets

Floats = NDArray[np.float32]
SCORES = ("probe", "knn", "logme", "h_score")


@dataclass(frozen=True)
class Suitability:
    """What the features of n items say; of every figure more is better."""

    probe: float
    """Cross-validated accuracy, micro-averaged F1 or R2."""
    knn: float
    """The same, of the nearest neighbours."""
    logme: float
    h_score: float
    items: Answers
    """What the ranking is by, for each item: probe and neighbours each count half."""

    @property
    def score(self) -> float:
        """Accuracy (F1, R2) of probe and neighbours together."""
        return self.items.figure


@dataclass(frozen=True)
class Question:
    """The labelled items that all candidates are judged by."""

    problem: Problem
    targets: Targets
    """As in `worker.engine.problems`; every class occurs."""
    outputs: int
    folds: int | None
    neighbours: int
    seed: int
    normalise: Literal["l2", "none"] = "l2"
    """What the probe does to features; a table's columns are scaled already."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        targets: Targets,
        *,
        folds: int | None,
        neighbours: int,
        seed: int,
        modality: Modality = "image",
    ) -> "Question":
        """Of targets in which classes may be missing."""
        how: Literal["l2", "none"] = "none" if modality == "tabular" else "l2"
        if problem == "classification":
            present, targets = np.unique(targets, return_inverse=True)
            return cls(problem, targets, len(present), folds, neighbours, seed, how)
        return cls(problem, targets, targets.shape[1], folds, neighbours, seed, how)


def measure(features: Floats, question: Question, check: Callable[[], None] = lambda: None) -> Suitability:
    """Judge features (n, D). Raises `JobError` `features_not_finite`; `check` is called now and then and may raise."""
    problem, targets = question.problem, question.targets
    probe = answers(problem, _probe(features, question, check), targets)
    check()
    near = nearest_neighbours(features, targets, question.neighbours, check=check)
    knn = answers(problem, near - 0.5 if problem == "multi_label" else near, targets)
    check()
    return Suitability(
        probe=probe.figure,
        knn=knn.figure,
        logme=logme(features, targets),
        h_score=h_score(features, targets),
        items=Answers((probe.hits + knn.hits) / 2, (probe.sizes + knn.sizes) / 2),
    )


def _probe(features: Floats, question: Question, check: Callable[[], None]) -> Floats:
    """Logits (n, C) that each item gets from a probe without it."""
    options, control = LinearProbe(solver="ridge", normalise=question.normalise), Control(check=check)

    def fitted(rows: NDArray[np.int64]) -> Fitted:
        rng = np.random.default_rng(question.seed)
        targets = question.targets[rows]
        return fit(
            features[rows], targets, question.outputs, options, rng=rng, problem=question.problem, control=control
        )

    if question.folds is None:
        return fitted(np.arange(len(features))).out_of_fold
    logits = np.zeros((len(features), question.outputs), dtype=np.float32)
    fold = _folds(question, question.folds)
    for number in range(question.folds):
        out = np.flatnonzero(fold == number)
        logits[out] = fitted(np.flatnonzero(fold != number)).head(features[out])
    alone = np.flatnonzero(fold < 0)  # without the only item of its class, the class is not known: that is a mistake
    if len(alone):
        logits[alone, (question.targets[alone] + 1) % question.outputs] = 1
    return logits


def _folds(question: Question, folds: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(question.seed)
    if question.problem == "classification":
        return stratified_folds(question.targets, folds, rng)
    return np.asarray(rng.permutation(len(question.targets)) % folds, dtype=np.int64)


def sample(problem: Problem, targets: Targets, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of at most `most` items in their order; classes keep their shares, and none loses its only items."""
    order = rng.permutation(len(targets))
    if problem == "classification":
        counts = np.bincount(targets)
        place = np.empty(len(targets))
        for label in np.flatnonzero(counts):
            members = order[targets[order] == label]
            place[members] = np.arange(len(members)) / len(members)
        order = order[np.argsort(place[order], kind="stable")]
    return np.asarray(np.sort(order[:most]), dtype=np.int64)
