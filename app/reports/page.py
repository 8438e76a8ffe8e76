"""The report as one self-contained HTML page: no script, no other host, light and dark, fit to print."""

import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.reports import episodes, ranking, shift, verdict, words
from app.reports.calibration import reliability_chart
from app.reports.confusion import LABELLED_UP_TO, confusion_chart, worst_pairs
from app.reports.headline import accuracy_strip
from app.reports.lines import best_point, curve_charts
from app.reports.scatter import scatter_chart
from app.reports.svg import shorten
from core.contract.datasets import Modality
from core.contract.jobs import Job
from core.contract.methods import METHODS
from core.contract.reports import ClassRow, Report

MOST_ROWS = 200
MOST_MISTAKES = 12
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Extras:
    """What the page shows beside the report itself, as far as it still exists."""

    job: Job | None = None
    source: str | None = None
    """Name of the data set the model learned from; None where a model of the user's own was adapted without one."""
    evaluation: str | None = None
    url: str | None = None
    """Where the model can be called; None once it is deleted."""
    pictures: dict[str, str] | None = None
    """Names of mistaken items -> `data:` URIs of small JPEG pictures."""
    target: str | None = None
    """Name of the data set that was adapted to."""
    driver_pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    """The same of the items that drive a shift, for `source` and `target`."""


def render(report: Report, extras: Extras) -> str:
    """The page of a report. Everything that users named is escaped by Jinja2 or `Markup.format`."""
    if report.ranking is not None:
        return _environment().get_template("ranking.html").render(_frame(report, extras) | ranking.context(report))
    if report.shift is not None and report.model_id is None:
        return _environment().get_template("shift.html").render(_frame(report, extras) | shift.context(report))
    return _environment().get_template("report.html").render(_context(report, extras))


def _frame(report: Report, extras: Extras) -> dict[str, Any]:
    """What the page of a job without a model needs beside what it found."""
    return {
        "style": _style(),
        "report": report,
        "extras": extras,
        "method": METHODS[report.method].title if report.method in METHODS else report.method,
        "steps": _steps(report),
        "total": sum(step.seconds or 0 for step in report.steps),
    }


@cache
def _environment() -> Environment:
    loader = PackageLoader("app.reports", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": words.percent,
        "count": words.count,
        "seconds": words.seconds,
        "things": words.things,
        "shorten": shorten,
    }
    return environment


@cache
def _style() -> Markup:
    css = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    return Markup(css)  # noqa: S704 - our own style sheet


def _context(report: Report, extras: Extras) -> dict[str, Any]:
    best = best_point(report)
    rows = _ranked(report.class_table)
    mistakes = report.mistakes[:MOST_MISTAKES]
    return {
        "style": _style(),
        "report": report,
        "extras": extras,
        "method": METHODS[report.method].title if report.method in METHODS else report.method,
        **_judged(report),
        **shift.context(report),
        **episodes.context(report),
        "lead": words.lead(report),
        "strip": accuracy_strip(report) if report.problem == "classification" else None,
        "headline": words.headline(report),
        "tiles": _tiles(report),
        "curves": curve_charts(report),
        "learning": words.learning(report, best.x if best else None),
        "confusion": confusion_chart(report.classes, report.confusion) if report.confusion else None,
        "scatter": scatter_chart(report),
        "compact": len(report.classes) > LABELLED_UP_TO,
        "pairs": worst_pairs(report.classes, report.confusion) if len(report.classes) > 12 else [],
        "calibration": words.calibration(report.calibration) if report.calibration else "",
        "reliability": reliability_chart(report.calibration.bins)
        if report.calibration and report.calibration.bins
        else None,
        "rows": rows[:MOST_ROWS],
        "hidden_rows": max(0, len(rows) - MOST_ROWS),
        "classes": words.classes(report.class_table),
        "pictured": [(m, extras.pictures[m.name]) for m in mistakes if extras.pictures and m.name in extras.pictures],
        "listed": [m for m in mistakes if not extras.pictures or m.name not in extras.pictures],
        "steps": _steps(report),
        "total": sum(step.seconds or 0 for step in report.steps),
        "commands": _commands(extras.url, report.model_id, report.modality) if extras.url and report.model_id else [],
    }


def _judged(report: Report) -> dict[str, Any]:
    """The verdict, its picture and the arms."""
    found = report.judgement
    return {
        "judged": found,
        "of_source": bool(found and found.guard and report.evaluated_on == "test_split"),
        "judged_title": verdict.title(found) if found else "",
        "effect": verdict.effect_strip(found) if found else None,
        "arms": verdict.rows(report),
        "left_out": verdict.left_out(report),
        "served": verdict.arm_title(found.served) if found else "",
        "lost": verdict.lost(found) if found else [],
        "forgetting": verdict.forgetting(found.forgetting, found.metric) if found else "",
    }


def _ranked(rows: list[ClassRow]) -> list[ClassRow]:
    """Weakest first; classes that could not be measured last."""
    return sorted(rows, key=lambda row: (row.support == 0, row.f1))


_MEANING = {  # name -> title, what it means, whether it is a share
    "accuracy": ("Exactly right", "share of items with exactly the right classes", True),
    "macro_f1": ("Macro F1", "mean over the classes, each counting alike", False),
    "average_precision": ("Average precision", "area under precision over recall, mean over the classes", False),
    "rmse": ("Root mean squared error", "in the unit of the values; large errors count most", False),
    "mae": ("Mean absolute error", "in the unit of the values", False),
    "nll": ("Log loss", "mean negative log-likelihood; lower is better", False),
    "ece": ("Calibration error", "mean gap between confidence and accuracy; lower is better", True),
}


def _tiles(report: Report) -> list[tuple[str, str, str, str]]:
    """Further figures: name, value, interval, what it means."""
    tiles, lead = [], words.lead(report)
    for name, (title, said, share) in _MEANING.items():
        found = words.metric(report, name)
        if found is None or (lead is not None and lead.name == name):
            continue
        value = words.percent(found.value) if share else words.figure(found.value)
        tiles.append((title, value, words.interval(found, share=share), said))
    return tiles


def _steps(report: Report) -> list[tuple[str, float, str, str]]:
    """Steps: name, share of the longest, duration, note."""
    longest = max((step.seconds or 0 for step in report.steps), default=0) or 1
    return [(s.name, (s.seconds or 0) / longest, words.seconds(s.seconds), s.note) for s in report.steps]


_CALLS = {
    "image": ("Classify images", "-F files=@photo.jpg -F files=@another.png"),
    "text": ("Ask about texts", """-H 'Content-Type: application/json' -d '{"items": [{"text": "…"}]}'"""),
    "tabular": ("Ask about rows", """-H 'Content-Type: application/json' -d '{"items": [{"row": {"column": 1}}]}'"""),
}


def _commands(url: str, model_id: str, modality: Modality) -> list[tuple[str, str]]:
    """What to type to use the model."""
    predict = shlex.quote(f"{url}/predict?top_k=3" if modality == "image" else f"{url}/predict")
    title, call = _CALLS[modality]
    return [
        (title, f"curl {call} {predict}"),
        ("Download it (ONNX, weights, manifest)", f"curl -o {model_id}.zip {shlex.quote(url)}"),
    ]
