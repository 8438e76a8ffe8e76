"""The verdict as the page shows it: the difference as a small picture, the arms in a table with dots and intervals."""

from dataclasses import dataclass

from markupsafe import Markup

from app.reports import words
from app.reports.svg import Scale, circle, join, line, rect, svg, text, ticks
from core.contract.methods import METHODS
from core.contract.reports import Report
from core.contract.verdicts import Arm, ClassChange, Difference, Forgetting, Judgement

WIDTH, SIDE, AXIS = 560.0, 32.0, 40.0
DOTS, ROW = 220.0, 22.0
TITLES = {
    "improved": "The transfer helped",
    "not_improved": "The transfer brought nothing of use",
    "harmful": "The transfer did harm",
    "undetermined": "Not to be told from these items",
}
ARMS = {
    "linear_probe": "Linear probe of the frozen base model",
    "fine_tune": "Fine-tuning",
    "auto": "The winner of the race",
    "nearest_class_mean": "Nearest class mean",
    "majority": "Always the commonest class",
    "mean": "Always the mean",
    "previous_model": "The model it started from",
    "from_scratch": "The same network from scratch",
    "source_only": "Trained on the source alone",
    "paired_only": "Trained on the paired items alone",
    "simple_shot": "Class means of the frozen base model",
    "logistic_regression": "Logistic regression on frozen features",
    "plain_fine_tuning": "Plain fine-tuning on the same few items",
}
FIGURES = {"accuracy": "accuracy", "micro_f1": "F1", "r2": "R²"}


@dataclass(frozen=True)
class ArmRow:
    """A line of the table of arms."""

    title: str
    value: str
    span: str
    difference: str
    seconds: str
    served: bool
    method: bool
    dot: Markup | None


def title(judgement: Judgement) -> str:
    """The verdict in a few words."""
    return TITLES[judgement.verdict]


def arm_title(name: str) -> str:
    """An arm by its name for people."""
    return ARMS.get(name) or (METHODS[name].title if name in METHODS else name)


def share_like(metric: str) -> bool:
    """Whether a figure is read as a percentage."""
    return metric == "accuracy"


def points(value: float, metric: str) -> str:
    """A difference with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−") if share_like(metric) else f"{value:+.3f}".replace("-", "−")


def value_of(value: float | None, metric: str) -> str:
    """A figure as people write it."""
    if value is None:
        return "–"
    return words.percent(value) if share_like(metric) else words.figure(value)


def effect_strip(judgement: Judgement) -> Markup | None:
    """The difference as a dot, its interval as a band, nought as a line and the margin of use as a shade."""
    found = judgement.difference
    if found is None:
        return None
    reach = max(abs(found.low), abs(found.high), 2.5 * judgement.margin)
    marks = ticks(-reach, reach, 4)
    x = Scale(min(marks[0], -reach), max(marks[-1], reach), SIDE, WIDTH - SIDE)
    margin, unit = judgement.margin, " points" if share_like(judgement.metric) else ""
    parts = [
        rect(x(-margin), AXIS - 16, x(margin) - x(-margin), 32, "shade", title="too little to be of use"),
        line(x(x.low), AXIS, x(x.high), AXIS, "base"),
        line(x(0), AXIS - 20, x(0), AXIS + 16, "zero"),
        *(
            line(x(mark), AXIS - 4, x(mark), AXIS + 4, "base")
            + text(x(mark), AXIS + 30, points(mark, judgement.metric) if mark else "0")
            for mark in marks
            if x.low <= mark <= x.high
        ),
        text(x(0) - 8, 14, "baseline better", anchor="end"),
        text(x(0) + 8, 14, "method better", anchor="start"),
        rect(x(found.low), AXIS - 8, max(3.0, x(found.high) - x(found.low)), 16, _css(found, "band")),
        circle(x(found.effect), AXIS, 6, _css(found, "point")),
    ]
    said = f"{points(found.low, judgement.metric)} to {points(found.high, judgement.metric)}{unit}"
    label = f"Difference {points(found.effect, judgement.metric)}{unit}, 95 % interval {said}"
    return svg(WIDTH, AXIS + 38, label, join(parts))


def _css(found: Difference, css: str) -> str:
    return f"{css} worse" if found.high < 0 else css


def rows(report: Report) -> list[ArmRow]:
    """The arms that were measured, the best first."""
    measured = [arm for arm in report.arms if arm.value is not None]
    scale = _scale(measured)
    return [_row(arm, scale) for arm in sorted(measured, key=lambda arm: -(arm.value or 0.0))]


def left_out(report: Report) -> list[tuple[str, str, str]]:
    """Arms without a figure: name, what became of them, why."""
    told = {"measured": "there is nothing to measure it on"}
    return [(arm_title(arm.name), told.get(arm.state, arm.state), arm.note) for arm in report.arms if arm.value is None]


def _scale(arms: list[Arm]) -> Scale:
    """From the worst interval to the best; what lies far below the rest (R2 has no floor) is cut off at -1."""
    lows = [max(-1.0, arm.low if arm.low is not None else arm.value or 0.0) for arm in arms]
    highs = [arm.high if arm.high is not None else arm.value or 0.0 for arm in arms]
    return Scale(min(lows, default=0.0), max(highs, default=1.0), 8, DOTS - 8)


def _row(arm: Arm, scale: Scale) -> ArmRow:
    span = ""
    if arm.low is not None and arm.high is not None:
        ends = [value_of(end, arm.metric).removesuffix(words.SPACE + "%") for end in (arm.low, arm.high)]
        span = words.DASH.join(ends)
    return ArmRow(
        title=arm_title(arm.name),
        value=value_of(arm.value, arm.metric),
        span=span,
        difference=_against(arm.difference, arm.metric),
        seconds=words.seconds(arm.seconds),
        served=arm.served,
        method=arm.role == "method",
        dot=_dot(arm, scale),
    )


def _against(found: Difference | None, metric: str) -> str:
    if found is None:
        return ""
    return f"{points(found.effect, metric)} ({points(found.low, metric)} to {points(found.high, metric)})"


def _dot(arm: Arm, scale: Scale) -> Markup:
    value = max(scale.low, arm.value if arm.value is not None else 0.0)
    middle = ROW / 2
    parts = [line(8, middle, DOTS - 8, middle, "grid")]
    if arm.low is not None and arm.high is not None:
        start, end = scale(max(scale.low, arm.low)), scale(max(scale.low, arm.high))
        parts.append(rect(start, middle - 4, max(2.0, end - start), 8, "band"))
    parts.append(circle(scale(value), middle, 5, "point" if arm.served else "dot one"))
    return svg(DOTS, ROW, f"{arm_title(arm.name)} {value_of(arm.value, arm.metric)}", join(parts))


def lost(judgement: Judgement) -> list[tuple[ClassChange, str, str, str]]:
    """Classes that lost, with their shares and the change."""
    return [
        (
            change,
            words.percent(change.baseline),
            words.percent(change.method),
            points(change.method - change.baseline, "accuracy"),
        )
        for change in judgement.lost_classes
    ]


def forgetting(found: Forgetting | None, metric: str) -> str:
    """What was forgotten of the parent's data, in a sentence; empty where nothing was measured."""
    if found is None:
        return ""
    change = points(found.after - found.before, metric)
    unit = " points" if share_like(metric) else ""
    return (
        f"On {words.things(found.items, 'item')} of the data that its parent learnt from ({found.dataset_id}) the "
        f"{FIGURES.get(metric, metric)} was {value_of(found.before, metric)} before and is "
        f"{value_of(found.after, metric)} now ({change}{unit})."
    )
