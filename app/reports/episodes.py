"""What episodes have shown as the page shows it: a table of arms, a column for each way and shot."""

from typing import Any

from app.reports import words
from app.reports.verdict import ARMS, arm_title
from core.contract.few_shot import EpisodeFigure
from core.contract.reports import Report

_TOGETHER = {"bd_cspn": "BD-CSPN", "tim": "TIM"}


def context(report: Report) -> dict[str, Any]:
    """What the section needs; `episodes` is None where the report has none."""
    found = report.episodes
    if found is None:
        return {"episodes": None}
    kinds = list(dict.fromkeys((figure.ways, figure.shots) for figure in found.figures))
    arms = list(dict.fromkeys(figure.arm for figure in found.figures))
    known = {(figure.arm, figure.ways, figure.shots): figure for figure in found.figures}
    return {
        "episodes": found,
        "episode_kinds": [f"{ways} classes, {words.things(shots, 'item')} of each" for ways, shots in kinds],
        "episode_rows": [
            (_title(arm), arm == report.method, [_cell(known.get((arm, *kind))) for kind in kinds]) for arm in arms
        ],
        "episode_notes": list(dict.fromkeys(figure.note for figure in found.figures if figure.note)),
        "outliers": "" if found.outliers is None else words.percent(found.outliers),
    }


def _title(arm: str) -> str:
    name, _, together = arm.partition("simple_shot_")
    if not name and together in _TOGETHER:
        return f"{arm_title('simple_shot')}, {_TOGETHER[together]}"
    return ARMS.get(arm) or arm_title(arm)


def _cell(figure: EpisodeFigure | None) -> tuple[str, str]:
    """Accuracy, and its interval with the number of episodes."""
    if figure is None:
        return "–", ""
    low, high = figure.low, figure.high
    half = "" if low is None or high is None else f"± {50 * (high - low):.1f}"
    return words.percent(figure.accuracy), f"{half} ({words.count(figure.episodes)})"
