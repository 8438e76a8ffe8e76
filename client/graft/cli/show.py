"""How the nouns look on a terminal."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from graft.cli.output import note, pairs, say, seconds, size, table
from graft.cli.show_episodes import episodes
from graft.cli.show_ranking import ranking
from graft.cli.show_shift import shift
from graft.types import ClassRow, Dataset, DatasetReport, Fault, GuardReport, Job, Model, Prediction, Report

_STYLES = {"error": "red", "warning": "yellow"}
_ROWS = 30
_PLACES = {"test_split": "the test split", "evaluation_dataset": "an evaluation data set", "target": "the target"}


def dataset(found: Dataset) -> None:
    """One data set."""
    pairs(
        [
            ("id", found.id),
            ("name", found.name),
            ("state", found.state),
            ("modality", found.modality or ""),
            ("problem", found.problem or ""),
            ("items", found.items or ""),
            ("classes", _some(found.classes)),
            ("splits", _counts(found.splits)),
            ("size", size(found.bytes)),
            ("sha256", found.sha256),
            ("warnings", found.warnings or ""),
            ("error", found.error.message if found.error else ""),
            ("created", found.created_at),
            ("ready", found.ready_at),
        ]
    )


def dataset_report(found: DatasetReport) -> None:
    """What ingestion found."""
    pairs(
        [
            ("files", found.files),
            ("items", found.items),
            ("labelled", "yes" if found.labelled else "no"),
            ("splits", f"{_counts(found.splits)} ({found.split_source}, seed {found.seed})"),
            ("target", found.target or ""),
            ("values", " / ".join(f"{value:g}" for value in found.values or ())),
            ("characters", _range(found.characters)),
            ("width", _range(found.width)),
            ("height", _range(found.height)),
            ("checked in", seconds(found.seconds)),
        ]
    )
    if found.classes:
        rows = [(c.name, c.train, c.validation, c.test) for c in found.classes]
        table(("class", "train", "validation", "test"), rows)
    if found.columns:
        columns = [(c.name, c.kind, f"{c.missing:.1%}", c.distinct, ", ".join(c.examples)) for c in found.columns]
        table(("column", "kind", "missing", "distinct", "examples"), columns)
    if found.faults:
        faults(found.faults)


def faults(found: Sequence[Fault], *, on_stderr: bool = False) -> None:
    """Faults, each with its remedy and examples."""
    rows = [(f.code, f.severity, f.count, _with_examples(f), f.remedy) for f in found]
    styles = [_STYLES.get(f.severity, "") for f in found]
    table(("fault", "severity", "count", "what was found", "what to do"), rows, styles=styles, on_stderr=on_stderr)


def _with_examples(fault: Fault) -> str:
    return f"{fault.message} E.g. {', '.join(fault.examples)}" if fault.examples else fault.message


def job(found: Job) -> None:
    """One job."""
    progress = found.progress
    wishes = [name for name, on in (("stop", found.stop_requested), ("cancel", found.cancel_requested)) if on]
    pairs(
        [
            ("id", found.id),
            ("state", found.state),
            ("method", _method(found)),
            ("base model", found.base_model),
            ("source", found.source),
            ("evaluation", found.evaluation),
            ("target", found.target),
            ("target labels", found.target_labels if found.target else ""),
            ("target's base model", found.target_base_model),
            ("progress", f"{progress.fraction:.0%} ({progress.step})" if progress and not found.finished else ""),
            ("steps", ", ".join(f"{s.name} {seconds(s.seconds)}".strip() for s in found.steps)),
            ("metrics", _metrics(found.metrics)),
            ("verdict", _plain(found.verdict)),
            ("requested", ", ".join(wishes) if not found.finished else ""),
            ("error", f"{found.error.message} ({found.error.code})" if found.error else ""),
            ("hint", found.error.hint if found.error else ""),
            ("model", found.model_id),
            ("created", found.created_at),
            ("took", _took(found.started_at, found.finished_at)),
        ]
    )


def model(found: Model) -> None:
    """One model."""
    pairs(
        [
            ("id", found.id),
            ("job", found.job_id),
            ("method", found.method),
            ("base model", found.base_model),
            ("classes", _some(found.classes)),
            ("few-shot", _few_shot(found)),
            ("metrics", _metrics(found.metrics)),
            ("verdict", _plain(found.verdict)),
            ("published", found.publication.at if found.publication else ""),
            ("although", (found.publication.override or "") if found.publication else ""),
            ("size", size(found.bytes)),
            ("sha256", found.sha256),
            ("created", found.created_at),
        ]
    )
    if found.files:
        table(("file", "size", "sha256"), [(f.name, size(f.bytes), f.sha256) for f in found.files])


def _few_shot(found: Model) -> str:
    """How it answers, and what was last done to its classes."""
    few_shot = found.few_shot
    if few_shot is None:
        return ""
    kind = f"by {_plain(few_shot['kind'])}"
    if not few_shot.get("changes"):
        return f"{kind}; classes can be added"
    last = few_shot["changes"][-1]
    return f"{kind}; revision {few_shot['revision']} of {few_shot['revision_of']}: {last['change']} {last['name']}"


def _plain(verdict: str | None) -> str:
    return (verdict or "").replace("_", " ")


def report(found: Report) -> None:
    """A job's report."""
    where = _PLACES.get(found.evaluated_on, found.evaluated_on)
    if found.ranking is not None:
        say(found.method, "bold")
        ranking(found.ranking)
        return
    if found.shift is not None and found.model_id is None:
        say(found.method, "bold")
        shift(found.shift)
        return
    say(f"{found.method} on {found.base_model}", "bold")
    learnt = f"Trained on {found.train_items} items, validated on {found.validation_items}"
    measured = f"measured on {found.held_out_items} of {where}" if found.evaluated_on != "nothing" else "not measured"
    say(f"{learnt}, {measured}.")
    if found.judgement:
        say(f"{_plain(found.judgement.verdict)}: {found.judgement.sentence}")
        if found.judgement.guard:
            guard(found.judgement.guard)
    if found.shift:
        shift(found.shift)
    if found.episodes:
        episodes(found.episodes)
    table(
        ("metric", "value", "95 % interval", "items"),
        [(m.name, _figure(m.value), _interval(m.low, m.high), m.n) for m in found.metrics],
    )
    _class_table(found.class_table)
    if found.calibration:
        c = found.calibration
        say(f"Confidence: calibration error {c.ece_before:.4f} -> {c.ece_after:.4f} (temperature {c.temperature:.3g}).")
    if found.steps:
        say("Steps: " + ", ".join(f"{s.name} {seconds(s.seconds)}".strip() for s in found.steps))
    for text in found.notes:
        say(f"- {text}")


def guard(found: GuardReport) -> None:
    """What is known of an adapted classifier without labels of its domain."""
    may = "may be served" if found.accepted else "is not served in place of what there was before"
    say(f"Guard, without labels: {_plain(found.verdict)} ({found.confidence:.0%} sure); the adapted model {may}.")
    for check in found.checks:
        if not check.passed:
            value = "unknown" if check.value is None else f"{check.value:.3g}"
            say(f"- {check.name}: {value}, has to be {check.threshold}. {check.meaning}")


def _class_table(rows: Sequence[ClassRow]) -> None:
    worst = sorted(rows, key=lambda row: row.f1)[:_ROWS] if len(rows) > _ROWS else rows
    if worst:
        shown = [(r.name, r.support, f"{r.precision:.3f}", f"{r.recall:.3f}", f"{r.f1:.3f}") for r in worst]
        table(("class", "items", "precision", "recall", "f1"), shown)
    if len(worst) < len(rows):
        say(f"(the {_ROWS} worst of {len(rows)} classes)")


def predictions(found: Sequence[Prediction], names: Sequence[str]) -> None:
    """Answers of a model, one row for each image."""
    rows = [
        (name, p.label or "none of these", _percent(p.probability), _top(p))
        for name, p in zip(names, found, strict=True)
        if p.label or p.none_of_these
    ]
    if rows:
        table(("image", "label", "probability", "others"), rows)
    for name, item in zip(names, found, strict=True):
        if item.error:
            hint = f" {item.error.hint}" if item.error.hint else ""
            note(f"{name}: {item.error.message}{hint} ({item.error.code})", "red")


def _top(item: Prediction) -> str:
    return ", ".join(f"{t.label} {_percent(t.probability)}" for t in item.top if t.label != item.label)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _method(found: Job) -> str:
    options: dict[str, Any] = found.method.options
    shown = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{found.method.name} ({shown})" if shown else found.method.name


def _metrics(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {_figure(value)}" for name, value in values.items())


def _figure(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.items())


def _some(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, … ({len(names)})" if len(names) > most else shown


def _range(values: tuple[int, int, int] | None) -> str:
    return "" if values is None else f"{values[0]} to {values[2]} px, median {values[1]}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _took(start: datetime | None, end: datetime | None) -> str:
    return "" if start is None or end is None else seconds((end - start).total_seconds())
