"""A shift between domains as the SDK and the command line show it."""

from typing import Any

import pytest

from graft.cli import show
from graft.types import Report


def _tests(effect: float) -> list[dict[str, Any]]:
    return [
        {"name": "mmd", "statistic": 0.02, "effect": 0.031, "low": 0.02, "high": 0.04, "p_value": 0.002},
        {"name": "classifier", "statistic": 0.9, "effect": effect, "low": 1.5, "high": 1.7, "p_value": 0.002},
    ]


def _report(**more: Any) -> Report:
    row = {"name": "mug", "source_items": 93, "target_items": 27, "source_share": 0.1, "target_share": 0.095}
    cloud = {"source": [[0.1, 0.2, 0]], "target": [[1, 2, 0]], "explained": 0.3}
    shift = {
        "kind": "general",
        "size": "large",
        "sentence": "The target lies beyond the source.",
        "methods": ["coral"],
        "tests": _tests(1.6),
        "level": 0.05,
        "permutations": 500,
        "source_items": 948,
        "target_items": 295,
        "overlap": 0.01,
        "labels": {"distance": 0.1, "low": 0.0, "high": 0.2, "p_value": 0.3, "explained": None},
        "classes": [row | {"name": f"class {number}", "distance": number / 10} for number in range(20)]
        + [row | {"distance": None}],
        "drivers": [{"name": "mug/7.jpg", "domain": "target", "probability": 0.99}],
        "before": cloud,
    } | more
    figures = {"train_items": 80, "validation_items": 10, "held_out_items": 10}
    named = {"job_id": "job_1", "method": "domain_shift", "base_model": "x", "evaluated_on": "test_split"}
    return Report.model_validate(named | figures | {"shift": shift})


def test_the_shift_is_printed_with_what_moved_most(capsys: pytest.CaptureFixture[str]) -> None:
    show.report(_report())
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        "948 source and 295 target items",
        "lies beyond the source",
        "1.6000",
        "class 19",
        "1.90",
        "mug/7.jpg",
    ):
        assert said in shown
    assert "the 15 of 21 classes" in shown
    assert "class 1 " not in shown
    assert "after" not in shown
    assert "Trained on" not in shown


def test_a_trained_model_shows_the_shift_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    cloud = {"source": [], "target": [], "explained": 0.3}
    found = _report(after={"tests": _tests(0.25), "cloud": cloud}).model_copy(update={"model_id": "mdl_1"})
    show.report(found)
    shown = " ".join(capsys.readouterr().out.split())
    for said in ("Trained on", "Domain shift", "after", "0.2500"):
        assert said in shown
