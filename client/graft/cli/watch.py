"""Watching a job: a live bar on a terminal, lines elsewhere, JSON Lines for programs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from graft.cli.output import clean, line, note, seconds, stderr
from graft.client import Graft
from graft.errors import JobFailedError
from graft.types import Event, Job

OnEvent = Callable[[Event], None]


def watch(client: Graft, job_id: str, *, as_json: bool) -> Job:
    """Show what happens until the job is finished; Ctrl-C leaves the job running."""
    try:
        with _lines() if as_json else _live() if stderr().is_terminal else _plain() as on_event:
            job = client.jobs.wait(job_id, on_event=on_event)
    except KeyboardInterrupt:
        note(f"\nThe job goes on. Watch it again:  graft jobs watch {job_id}")
        note(f"                   Cancel it:       graft jobs cancel {job_id}")
        raise typer.Exit(130) from None
    except JobFailedError as error:
        if as_json:
            line(error.job)
        raise
    if as_json:
        line(job)
    return job


@contextmanager
def _lines() -> Iterator[OnEvent]:
    yield line


@contextmanager
def _plain() -> Iterator[OnEvent]:
    def on_event(event: Event) -> None:
        if text := _sentence(event):
            note(f"{event.at.astimezone():%H:%M:%S} {text}")

    yield on_event


@contextmanager
def _live() -> Iterator[OnEvent]:
    console = stderr()
    wide = console.width >= 80
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None if wide else 10),
    ]
    columns.append(TaskProgressColumn())
    if wide:
        columns.append(TextColumn("{task.fields[extra]}", markup=False))
    with Progress(*columns, TimeElapsedColumn(), console=console, expand=wide) as bar:
        task = bar.add_task("queued", total=1.0, extra="")
        facts = {"epoch": "", "metric": "", "eta": ""}

        def on_event(event: Event) -> None:
            if event.kind in {"step", "message"} and (text := _sentence(event)):
                bar.console.print(Text(text, "dim"), soft_wrap=True)
            facts.update(_facts(event))
            changes: dict[str, Any] = {"extra": ", ".join(filter(None, facts.values()))}
            if event.kind == "progress":
                changes |= {"completed": event.data.get("fraction", 0.0), "description": event.data.get("step", "")}
            elif event.kind == "state":
                state = str(event.data.get("state", ""))
                changes["description"] = state
                changes |= {"completed": 1.0} if state == "succeeded" else {}
                changes |= {"completed": 0.0} if state == "queued" else {}
            bar.update(task, **changes)

        yield on_event


def _facts(event: Event) -> dict[str, str]:
    """What stands behind the bar: epoch, accuracy, time left."""
    data = event.data
    if event.kind == "progress":
        epoch, epochs, eta = data.get("epoch"), data.get("epochs"), data.get("eta_seconds")
        return {
            "epoch": f"epoch {epoch}/{epochs}" if epoch is not None and epochs else "",
            "eta": f"{seconds(eta)} left" if eta else "",
        }
    if event.kind == "state":
        return {"eta": ""}
    if event.kind == "metric":
        shown = next((name for name in data if "accuracy" in name), None)
        return {"metric": f"{shown} {data[shown]:.3f}"} if shown else {}
    return {}


def _sentence(event: Event) -> str:
    data = event.data
    if event.kind == "state":
        attempt = f" (attempt {data['attempt']})" if data.get("attempt", 1) > 1 else ""
        return f"{data.get('state', '')}{attempt}"
    if event.kind == "step" and data.get("state") == "done":
        extra = f", {data['note']}" if data.get("note") else ""
        return clean(f"{data.get('name')}: {seconds(data.get('seconds'))}{extra}")
    if event.kind == "metric":
        values = (f"{name} {value:.4g}" for name, value in data.items() if isinstance(value, (int, float)))
        return clean(", ".join(values))
    if event.kind == "message":
        return clean(str(data.get("text", "")))
    return ""
