"""Measuring a trained model on held-out items: everything of the report that follows from their logits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract.reports import Calibration, ClassRow, Metric, Mistake, ReliabilityBin
from worker.engine import metrics
from worker.engine.calibration import fit_temperature, reliability
from worker.engine.data import Items
from worker.engine.metrics import Ints

Floats = NDArray[np.float32]
ENOUGH = 10  # items that a temperature can be fitted on
_MISTAKES = 20


@dataclass(frozen=True)
class Temperature:
    """The temperature of a model, and what it was fitted on."""

    value: float
    items: int
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What the held-out items say."""

    metrics: list[Metric]
    class_table: list[ClassRow]
    confusion: list[list[int]]
    calibration: Calibration
    mistakes: list[Mistake]


def temperature(validation: Floats, labels: Ints, out_of_fold: Floats | None, train_labels: Ints) -> Temperature:
    """Fit on out-of-fold logits of training items, where there are such; else on the validation split; else 1."""
    if out_of_fold is not None:
        known = np.isfinite(out_of_fold).all(axis=1)
        validation, labels = out_of_fold[known], train_labels[known]
    if len(labels) >= ENOUGH:
        return Temperature(fit_temperature(validation, labels), len(labels))
    return Temperature(
        1.0,
        0,
        f"Only {len(labels)} items could be used to fit the temperature, so it is 1: take the confidences with care.",
    )


def evaluate(
    logits: Floats, items: Items, scale: Temperature, classes: list[str], rng: np.random.Generator
) -> Evaluation:
    """Figures of logits (n, C) on the held-out `items` (n)."""
    n, labels = len(items), items.labels
    probabilities = metrics.softmax(logits, scale.value)
    predicted = logits.argmax(axis=1)
    counts = metrics.confusion(labels, predicted, len(classes))
    right = int((predicted == labels).sum())
    low, high = metrics.wilson(right, n)
    f1_low, f1_high = metrics.macro_f1_interval(counts, rng)
    after = reliability(probabilities, labels)
    return Evaluation(
        metrics=[
            Metric(name="accuracy", value=right / n, low=low, high=high, interval="wilson", n=n),
            Metric(
                name="macro_f1",
                value=float(metrics.macro_f1(counts)),
                low=f1_low,
                high=f1_high,
                interval="bootstrap",
                n=n,
            ),
            Metric(name="nll", value=metrics.nll(logits, labels, scale.value), n=n),
            Metric(name="ece", value=after.ece, n=n),
        ],
        class_table=_class_table(counts, classes),
        confusion=counts.tolist(),
        calibration=Calibration(
            temperature=scale.value,
            fitted_on=scale.items,
            ece_before=reliability(metrics.softmax(logits), labels).ece,
            ece_after=after.ece,
            bins=[
                ReliabilityBin(confidence=float(confidence), accuracy=float(accuracy), count=int(count))
                for confidence, accuracy, count in zip(after.confidence, after.accuracy, after.count, strict=True)
            ],
        ),
        mistakes=_mistakes(probabilities, predicted, items, classes),
    )


def _class_table(counts: NDArray[np.int64], classes: list[str]) -> list[ClassRow]:
    figures = metrics.per_class(counts)
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
