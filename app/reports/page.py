"""The report as one self-contained HTML page: no script, no other host, light and dark, fit to print."""

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.reports import words
from app.reports.calibration import reliability_chart
from app.reports.confusion import LABELLED_UP_TO, confusion_chart, worst_pairs
from app.reports.headline import accuracy_strip
from app.reports.lines import best_point, curve_charts
from app.reports.svg import shorten
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
    """Name of the data set the model learned from."""
    evaluation: str | None = None
    url: str | None = None
    """Where the model can be called; None once it is deleted."""
    pictures: dict[str, str] | None = None
    """Names of mistaken items -> `data:` URIs of small JPEG pictures."""


def render(report: Report, extras: Extras) -> str:
    """The page of a report. Everything that users named is escaped by Jinja2 or `Markup.format`."""
    return _environment().get_template("report.html").render(_context(report, extras))


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
        "accuracy": words.metric(report, "accuracy"),
        "strip": accuracy_strip(report),
        "headline": words.headline(report),
        "tiles": _tiles(report),
        "curves": curve_charts(report),
        "learning": words.learning(report, best.x if best else None),
        "confusion": confusion_chart(report.classes, report.confusion),
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
        "commands": _commands(extras.url, report.model_id) if extras.url and report.model_id else [],
    }


def _ranked(rows: list[ClassRow]) -> list[ClassRow]:
    """Weakest first; classes that could not be measured last."""
    return sorted(rows, key=lambda row: (row.support == 0, row.f1))


def _tiles(report: Report) -> list[tuple[str, str, str, str]]:
    """Further figures: name, value, interval, what it means."""
    meaning = {
        "macro_f1": ("Macro F1", "mean over the classes, each counting alike"),
        "nll": ("Log loss", "mean negative log-likelihood; lower is better"),
        "ece": ("Calibration error", "mean gap between confidence and accuracy; lower is better"),
    }
    tiles = []
    for name, (title, said) in meaning.items():
        if found := words.metric(report, name):
            share = name == "ece"
            value = words.percent(found.value) if share else words.figure(found.value)
            tiles.append((title, value, words.interval(found, share=share), said))
    return tiles


def _steps(report: Report) -> list[tuple[str, float, str, str]]:
    """Steps: name, share of the longest, duration, note."""
    longest = max((step.seconds or 0 for step in report.steps), default=0) or 1
    return [(s.name, (s.seconds or 0) / longest, words.seconds(s.seconds), s.note) for s in report.steps]


def _commands(url: str, model_id: str) -> list[tuple[str, str]]:
    """What to type to use the model."""
    predict = shlex.quote(f"{url}/predict?top_k=3")
    return [
        ("Classify images", f"curl -F files=@photo.jpg -F files=@another.png {predict}"),
        ("Download it (ONNX, weights, manifest)", f"curl -o {model_id}.zip {shlex.quote(url)}"),
    ]
