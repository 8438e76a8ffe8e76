"""Shifts with figures that belong together: measured on simulated items, not invented."""

import numpy as np

from core.contract.base import new_id
from core.contract.jobs import Step
from core.contract.reports import Report
from core.contract.shifts import ClassShift, Cloud, Driver, LabelShift, Shift, ShiftAfter, ShiftTest, Spot


def _cloud(move: float, classes: int, items: int, rng: np.random.Generator) -> Cloud:
    middle = rng.normal(0, 1.1, (classes, 2))

    def spots(offset: float) -> list[Spot]:
        labels = rng.integers(0, classes, items)
        places = middle[labels] + rng.normal(0, 0.35, (items, 2)) + offset * np.array([1.0, 0.6])
        return [(round(float(x), 3), round(float(y), 3), int(c)) for (x, y), c in zip(places, labels, strict=True)]

    return Cloud(source=spots(0.0), target=spots(move), explained=0.31)


def _tests(share: float, mmd: float, p_value: float) -> list[ShiftTest]:
    a = 4 * share - 2
    return [
        ShiftTest(name="mmd", statistic=1.6 * mmd, effect=mmd, low=0.9 * mmd, high=1.1 * mmd, p_value=p_value),
        ShiftTest(name="classifier", statistic=share, effect=a, low=a - 0.1, high=min(2, a + 0.1), p_value=p_value),
    ]


def sample_shift(classes: list[str], *, kind: str = "general", adapted: bool = False, items: int = 300) -> Shift:
    """A shift of some kind between two domains of those classes."""
    rng = np.random.default_rng(3)
    none, few = kind == "none", max(1, len(classes))
    shares = rng.dirichlet(np.full(few, 8.0), 2)
    return Shift.model_validate(
        {
            "kind": kind,
            "size": "negligible" if none else "large",
            "sentence": "Nothing needs adapting." if none else "The target lies beyond the source.",
            "methods": [] if none else ["linear_probe"],
            "tests": _tests(0.49, 0.0002, 0.61) if none else _tests(0.962, 0.041, 1 / 501),
            "level": 0.05,
            "permutations": 500,
            "source_items": 958,
            "target_items": 295,
            "overlap": 0.98 if none else 0.004,
            "labels": LabelShift(distance=0.12, low=0.04, high=0.2, p_value=0.02, explained=None) if classes else None,
            "classes": [
                ClassShift(
                    name=name,
                    source_items=int(958 * shares[0][number]),
                    target_items=int(295 * shares[1][number]),
                    source_share=float(shares[0][number]),
                    target_share=float(shares[1][number]),
                    distance=None if number == few - 1 and few > 2 else 0.2 + 0.13 * number,
                )
                for number, name in enumerate(classes)
            ],
            "common": 0.72 if classes else None,
            "drivers": []
            if none
            else [
                Driver(name=f"{side}/IMG_{number}.jpg", domain=side, probability=0.999 - number / 500)
                for side in ("target", "source")
                for number in range(10)
            ],
            "before": _cloud(0.0 if none else 1.7, few, items, rng),
            "after": ShiftAfter(tests=_tests(0.58, 0.002, 0.03), cloud=_cloud(0.15, few, items, rng))
            if adapted
            else None,
        }
    )


def shift_report(shift: Shift, classes: list[str]) -> Report:
    """The report of a job that measured it and made no model."""
    return Report(
        job_id=new_id("job"),
        model_id=None,
        method="domain_shift",
        base_model="efficientnet_lite0",
        classes=classes,
        evaluated_on="test_split",
        train_items=958,
        validation_items=0,
        held_out_items=100,
        metrics=[],
        class_table=[],
        curve_axis="epoch",
        steps=[Step(name="prepare", state="done", seconds=0.03), Step(name="features", state="done", seconds=7.5)],
        shift=shift,
    )
