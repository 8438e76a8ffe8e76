"""Reports with figures that belong together: computed from simulated predictions, not invented one by one."""

import numpy as np

from core.contract.base import new_id
from core.contract.jobs import Step
from core.contract.reports import Calibration, ClassRow, CurvePoint, Metric, Mistake, ReliabilityBin, Report

FRUIT = ["apple", "banana", "cherry", "damson", "elderberry", "fig", "grape", "honeydew melon", "ilama", "jackfruit"]


def class_names(n: int) -> list[str]:
    """`n` distinct names of varied length."""
    return [FRUIT[i] if i < len(FRUIT) else f"{FRUIT[i % len(FRUIT)]} {'of kind ' * (i % 3 == 0)}{i}" for i in range(n)]


def sample_report(
    n: int = 10,
    items: int = 520,
    *,
    names: list[str] | None = None,
    axis: str = "epoch",
    strength: float = 3.4,
    seed: int = 0,
    item_names: list[str] | None = None,
) -> Report:
    """A report on `items` simulated held-out items of `n` classes."""
    rng = np.random.default_rng(seed)
    classes = names or class_names(n)
    n = len(classes)
    truth = rng.choice(n, items, p=rng.dirichlet(np.full(n, 6.0)))
    logits = rng.normal(0, 1, (items, n)) + strength * np.eye(n)[truth]
    neighbour = rng.random(items) < 0.12
    logits[neighbour, (truth[neighbour] + 1) % n] += strength * 0.9
    logits *= 2.4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    guess, confidence = probabilities.argmax(1), probabilities.max(1)
    matrix = np.zeros((n, n), int)
    np.add.at(matrix, (truth, guess), 1)
    wrong = sorted(np.flatnonzero(guess != truth), key=lambda i: -confidence[i])[:20]
    item_names = item_names or [f"test/{classes[t]}/IMG_{1000 + i}.jpg" for i, t in enumerate(truth)]
    rows = _rows(classes, matrix)
    ece = float(abs(confidence.mean() - (guess == truth).mean()))
    return Report(
        job_id=new_id("job"),
        model_id=new_id("mdl"),
        method="fine_tune" if axis == "epoch" else "linear_probe",
        base_model="efficientnet_lite0",
        classes=classes,
        evaluated_on="test_split",
        train_items=4 * items,
        validation_items=items,
        held_out_items=items,
        metrics=_metrics(rows, probabilities, truth, guess, ece),
        class_table=rows,
        confusion=matrix.tolist(),
        calibration=Calibration(
            temperature=1.31,
            fitted_on=items,
            ece_before=ece + 0.043,
            ece_after=ece,
            bins=_bins(confidence, guess == truth),
        ),
        curve_axis="epoch" if axis == "epoch" else "log10_regularisation",
        curve=_curve(axis, rng),
        mistakes=[
            Mistake(
                name=item_names[i],
                truth=classes[truth[i]],
                predicted=classes[guess[i]],
                confidence=float(confidence[i]),
            )
            for i in wrong
        ],
        steps=[
            Step(name="prepare", state="done", seconds=0.021),
            Step(name="features", state="done", seconds=11.4, note="from cache: 1,204 of 2,600 items"),
            Step(name="train", state="done", seconds=34.8),
            Step(name="evaluate", state="done", seconds=2.2),
            Step(name="export", state="done", seconds=5.1),
            Step(name="store", state="done", seconds=0.3),
        ],
        notes=["The test split was made here, stratified by class (seed 0): 20 % of the items."],
    )


def _rows(classes: list[str], matrix: np.ndarray) -> list[ClassRow]:
    rows = []
    for i, name in enumerate(classes):
        hit, said, support = int(matrix[i, i]), int(matrix[:, i].sum()), int(matrix[i].sum())
        precision, recall = hit / said if said else 0.0, hit / support if support else 0.0
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        rows.append(ClassRow(name=name, support=support, precision=precision, recall=recall, f1=f1))
    return rows


def _metrics(
    rows: list[ClassRow], probabilities: np.ndarray, truth: np.ndarray, guess: np.ndarray, ece: float
) -> list[Metric]:
    n = len(truth)
    p, z = float((guess == truth).mean()), 1.96
    centre, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n) / (1 + z * z / n),
    )
    f1 = float(np.mean([row.f1 for row in rows]))
    nll = float(-np.log(probabilities[np.arange(n), truth]).mean())
    return [
        Metric(name="accuracy", value=p, low=float(centre - half), high=float(centre + half), interval="wilson", n=n),
        Metric(name="macro_f1", value=f1, low=max(0, f1 - 0.03), high=min(1, f1 + 0.03), interval="bootstrap", n=n),
        Metric(name="nll", value=nll, low=nll * 0.9, high=nll * 1.12, interval="bootstrap", n=n),
        Metric(name="ece", value=ece, n=n),
    ]


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[ReliabilityBin]:
    index = np.minimum(14, (confidence * 15).astype(int))
    return [
        ReliabilityBin(
            confidence=float(confidence[index == i].mean()),
            accuracy=float(right[index == i].mean()),
            count=int((index == i).sum()),
        )
        for i in range(15)
        if (index == i).any()
    ]


def _curve(axis: str, rng: np.random.Generator) -> list[CurvePoint]:
    xs = [float(x) for x in (range(1, 13) if axis == "epoch" else range(-6, 3))]
    points = []
    for i, x in enumerate(xs):
        validation = 0.35 + 1.3 * np.exp(-i / 2) + 0.012 * max(0, i - 5) ** 1.5 + rng.normal(0, 0.01)
        points.append(
            CurvePoint(
                x=x,
                train_loss=float(0.12 + 1.5 * np.exp(-i / 2.2)) if axis == "epoch" else None,
                validation_loss=float(validation),
                validation_accuracy=float(0.93 - 0.5 * np.exp(-i / 2) - 0.003 * max(0, i - 6)),
            )
        )
    return points
