"""Measuring a trained model on held-out items: everything of the report that follows from their logits."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.contract.reports import Calibration, ClassRow, Metric, Mistake, ReliabilityBin, ScatterPoint
from worker.engine import metrics, problems
from worker.engine.calibration import fit_temperature, reliability
from worker.engine.data import Items, JobData
from worker.engine.metrics import Ints
from worker.engine.problems import Targets

Floats = NDArray[np.float32]
ENOUGH = 10  # items that a temperature can be fitted on
COVERED = 0.9  # share of items whose value lies within the residual
_INHERITED = (
    "The confidences are scaled as those of the model it started from, which may not suit the new domain: without "
    "labels there is nothing to scale them by anew."
)
_MISTAKES = 20
_POINTS = 1000


@dataclass(frozen=True)
class Scale:
    """How logits become answers, and what that was fitted on."""

    temperature: float
    items: int
    residual: float | None = None
    """Of a regression, in the user's own unit."""
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What the held-out items say."""

    metrics: list[Metric]
    class_table: list[ClassRow] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: Calibration | None = None
    scatter: list[ScatterPoint] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def fit_scale(data: JobData, validation: Floats, out_of_fold: Floats | None) -> Scale:
    """Fit on out-of-fold logits of training items, where there are such; else on the validation split; else none.

    The residual is split conformal (Lei et al., JASA 2018): the next item's error is no larger nine times out of ten.
    """
    targets = data.validation.labels
    if out_of_fold is not None:
        known = np.isfinite(out_of_fold).all(axis=1)
        validation, targets = out_of_fold[known], data.train.labels[known]
    count = len(targets)
    if data.scale is not None:
        errors = np.sort(np.abs(validation - targets).ravel()) * data.scale.std
        place = int(np.ceil(COVERED * (count + 1))) - 1
        residual = float(errors[place]) if place < count and count >= ENOUGH else None
        note = "" if residual is not None else f"Only {count} items were left to tell how far values may lie off."
        return Scale(1.0, count, residual, note)
    if data.hypothesis is not None:
        return Scale(1.0, 0, note=_INHERITED)
    if count >= ENOUGH:
        return Scale(fit_temperature(validation, targets, data.problem), count)
    return Scale(
        1.0,
        0,
        note=f"Only {count} items could be used to fit the temperature, so it is 1: take the confidences with care.",
    )


def evaluate(logits: Floats, data: JobData, scale: Scale, rng: np.random.Generator) -> Evaluation:
    """Figures of logits (n, C) on the held-out items (n); none where there are no such items."""
    if len(data.held_out) == 0:
        return Evaluation(metrics=[])
    if data.problem == "classification":
        return _classes(logits, data, scale, rng)
    return _labels(logits, data, scale, rng) if data.problem == "multi_label" else _values(logits, data, rng)


def _classes(logits: Floats, data: JobData, scale: Scale, rng: np.random.Generator) -> Evaluation:
    labels = data.held_out.labels
    probabilities = metrics.softmax(logits, scale.temperature)
    predicted = logits.argmax(axis=1)
    counts = metrics.confusion(labels, predicted, len(data.classes))
    calibration = _calibration(metrics.softmax(logits), probabilities, labels, scale)
    n = len(labels)
    return Evaluation(
        metrics=[
            _accuracy(int((predicted == labels).sum()), n),
            _bootstrapped("macro_f1", float(metrics.macro_f1(counts)), metrics.macro_f1_interval(counts, rng), n),
            Metric(name="nll", value=metrics.nll(logits, labels, scale.temperature), n=n),
            Metric(name="ece", value=calibration.ece_after, n=n),
        ],
        class_table=_class_table(metrics.per_class(counts), data.classes),
        confusion=counts.tolist(),
        calibration=calibration,
        mistakes=_mistakes(probabilities, predicted, data.held_out, data.classes),
    )


def _labels(logits: Floats, data: JobData, scale: Scale, rng: np.random.Generator) -> Evaluation:
    truth, said, n = data.held_out.labels > 0.5, logits > 0, len(data.held_out)
    scores = problems.probabilities("multi_label", logits, scale.temperature)
    figures = _figures(said, truth)
    present = figures.support > 0
    calibration = _calibration(
        _two_sided(problems.probabilities("multi_label", logits)), _two_sided(scores), truth.ravel().astype(int), scale
    )

    def resampled(rows: Ints) -> float:
        return metrics.micro_f1(said[rows], truth[rows])

    return Evaluation(
        metrics=[
            _bootstrapped("micro_f1", metrics.micro_f1(said, truth), metrics.bootstrap(resampled, n, rng), n),
            Metric(name="macro_f1", value=float(figures.f1[present].mean()) if present.any() else 0.0, n=n),
            Metric(name="average_precision", value=metrics.average_precision(scores, truth), n=n),
            _accuracy(int((said == truth).all(axis=1).sum()), n),
            Metric(name="nll", value=problems.nll("multi_label", logits, truth, scale.temperature), n=n),
            Metric(name="ece", value=calibration.ece_after, n=n),
        ],
        class_table=_class_table(figures, data.classes),
        calibration=calibration,
        mistakes=_missed(scores, said, truth, data),
    )


def _values(logits: Floats, data: JobData, rng: np.random.Generator) -> Evaluation:
    assert data.scale is not None
    predicted, truth = (data.scale.restore(part).ravel() for part in (logits, data.held_out.labels))
    errors, n = predicted - truth, len(truth)

    def rmse(rows: Ints) -> float:
        return float(np.sqrt(np.square(errors[rows]).mean()))

    def mae(rows: Ints) -> float:
        return float(np.abs(errors[rows]).mean())

    def r2(rows: Ints) -> float:
        return metrics.r2(predicted[rows], truth[rows])

    everything = np.arange(n)
    shown = rng.permutation(n)[:_POINTS]
    return Evaluation(
        metrics=[
            _bootstrapped(name, figure(everything), metrics.bootstrap(figure, n, rng), n)
            for name, figure in (("r2", r2), ("rmse", rmse), ("mae", mae))
        ],
        scatter=[ScatterPoint(truth=float(truth[i]), predicted=float(predicted[i])) for i in sorted(shown)],
        mistakes=[
            Mistake(name=data.held_out.name(int(i)), truth=f"{truth[i]:.6g}", predicted=f"{predicted[i]:.6g}")
            for i in np.argsort(-np.abs(errors), kind="stable")[:_MISTAKES]
        ],
    )


def _accuracy(right: int, n: int) -> Metric:
    low, high = metrics.wilson(right, n)
    return Metric(name="accuracy", value=right / n, low=low, high=high, interval="wilson", n=n)


def _bootstrapped(name: str, value: float, interval: tuple[float, float], n: int) -> Metric:
    low, high = interval
    return Metric.model_validate(
        {"name": name, "value": value, "low": low, "high": high, "interval": "bootstrap", "n": n}
    )


def _calibration(before: Targets, after: Targets, labels: Ints, scale: Scale) -> Calibration:
    found = reliability(after, labels)
    return Calibration(
        temperature=scale.temperature,
        fitted_on=scale.items,
        ece_before=reliability(before, labels).ece,
        ece_after=found.ece,
        bins=[
            ReliabilityBin(confidence=float(confidence), accuracy=float(accuracy), count=int(count))
            for confidence, accuracy, count in zip(found.confidence, found.accuracy, found.count, strict=True)
        ],
    )


def _two_sided(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each class of each item (n, C) as a question of its own with two answers, (n C, 2)."""
    flat = scores.ravel()
    return np.stack([1 - flat, flat], axis=1)


def _figures(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> metrics.ClassFigures:
    """Precision, recall and F1 of each class from what was said and what is true (n, C)."""
    both, claimed, support = ((part).sum(axis=0) for part in (said & truth, said, truth))

    def share(part: Ints, whole: Ints) -> NDArray[np.float64]:
        return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)

    return metrics.ClassFigures(support, share(both, claimed), share(both, support), share(2 * both, claimed + support))


def _class_table(figures: metrics.ClassFigures, classes: list[str]) -> list[ClassRow]:
    return [
        ClassRow(
            name=name,
            support=int(figures.support[number]),
            precision=float(figures.precision[number]),
            recall=float(figures.recall[number]),
            f1=float(figures.f1[number]),
        )
        for number, name in enumerate(classes)
    ]


def _mistakes(probabilities: NDArray[np.float64], predicted: Ints, items: Items, classes: list[str]) -> list[Mistake]:
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != items.labels)
    return [
        Mistake(
            name=items.name(int(i)),
            truth=classes[items.labels[i]],
            predicted=classes[predicted[i]],
            confidence=float(confidence[i]),
        )
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
    ]


def _missed(
    scores: NDArray[np.float64], said: NDArray[np.bool_], truth: NDArray[np.bool_], data: JobData
) -> list[Mistake]:
    """Items with a class too many or too few, the surest of them first."""
    doubt = np.where(said != truth, np.abs(scores - 0.5), 0).max(axis=1)
    wrong = np.flatnonzero((said != truth).any(axis=1))

    def names(row: NDArray[np.bool_]) -> str:
        return ", ".join(data.classes[number] for number in np.flatnonzero(row)) or "none"

    return [
        Mistake(
            name=data.held_out.name(int(i)),
            truth=names(truth[i]),
            predicted=names(said[i]),
            confidence=float(0.5 + doubt[i]),
        )
        for i in wrong[np.argsort(-doubt[wrong], kind="stable")][:_MISTAKES]
    ]
