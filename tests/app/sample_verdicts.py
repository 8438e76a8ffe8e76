"""Judgements and arms for reports, and reports of other problems than classification."""

import numpy as np

from core.contract.reports import Metric, Report, ScatterPoint
from core.contract.verdicts import Arm, ClassChange, Difference, Forgetting, Judgement, Verdict
from tests.app.sample_reports import sample_report

SENTENCES: dict[Verdict, str] = {
    "improved": "Fine-tuning helped: it is better than a linear probe of the frozen base model.",
    "not_improved": "Fine-tuning brought nothing of use over a linear probe of the frozen base model.",
    "harmful": "Fine-tuning did harm: a linear probe of the frozen base model is better.",
    "undetermined": "Whether fine-tuning is better cannot be told from 520 items: about 2,600 would be needed.",
}
EFFECTS: dict[Verdict, tuple[float, float, float]] = {
    "improved": (0.046, 0.021, 0.071),
    "not_improved": (0.001, -0.008, 0.009),
    "harmful": (-0.062, -0.091, -0.034),
    "undetermined": (0.012, -0.014, 0.037),
}


def judged(report: Report, verdict: Verdict, *, overridden: bool = False, metric: str = "accuracy") -> Report:
    """The report with a verdict."""
    effect, low, high = EFFECTS[verdict]
    found = Difference(effect=effect, low=low, high=high, p_value=0.03, test="mcnemar")
    served = "fine_tune" if overridden or verdict == "improved" else "linear_probe"
    judgement = Judgement(
        verdict=verdict,
        sentence=SENTENCES[verdict],
        metric=metric,
        baseline="linear_probe",
        difference=found,
        items=report.held_out_items,
        margin=0.01,
        lost_classes=[ClassChange(name=name, support=41, baseline=0.95, method=0.73) for name in report.classes[:1]],
        forgetting=Forgetting(dataset_id="ds_x", items=200, before=0.93, after=0.88),
        served=served,
        overridden=overridden,
    )
    values = {"fine_tune": 0.87, "linear_probe": 0.87 - effect, "nearest_class_mean": 0.79, "majority": 0.16}
    arms = [
        Arm(
            name=name,
            role="method" if name == "fine_tune" else "baseline",
            state="measured",
            metric=metric,
            value=value,
            low=value - 0.03,
            high=value + 0.03,
            validation=value,
            seconds=34.8 if name == "fine_tune" else 0.04,
            difference=None if name == "fine_tune" else found,
            served=name == served,
        )
        for name, value in values.items()
    ]
    skipped = Arm(name="from_scratch", role="baseline", state="skipped", note="It costs as much as the method.")
    return report.model_copy(update={"judgement": judgement, "arms": [*arms, skipped]})


def regression_report(items: int = 150) -> Report:
    """A report on a number, with a picture of truth and prediction."""
    rng = np.random.default_rng(3)
    truth = rng.normal(210, 40, items)
    said = truth + rng.normal(0, 12, items)
    figures = {"r2": 0.91, "rmse": 12.1, "mae": 9.6}
    return sample_report().model_copy(
        update={
            "problem": "regression",
            "modality": "tabular",
            "target": "price <b>",
            "classes": [],
            "class_table": [],
            "confusion": [],
            "calibration": None,
            "mistakes": [
                sample_report().mistakes[0].model_copy(update={"confidence": None, "truth": "310", "predicted": "255"})
            ],
            "metrics": [Metric(name=name, value=value, n=items) for name, value in figures.items()],
            "scatter": [ScatterPoint(truth=float(a), predicted=float(b)) for a, b in zip(truth, said, strict=True)],
        }
    )


def multi_label_report() -> Report:
    """A report on any number of classes an item."""
    figures = {"micro_f1": 0.81, "macro_f1": 0.77, "average_precision": 0.84, "accuracy": 0.52, "nll": 0.2, "ece": 0.03}
    return sample_report().model_copy(
        update={
            "problem": "multi_label",
            "confusion": [],
            "metrics": [Metric(name=name, value=value, n=520) for name, value in figures.items()],
        }
    )
