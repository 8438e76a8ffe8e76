"""`graft jobs`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.cli import show
from graft.cli.output import document, note, say, table
from graft.cli.session import Json, Limit, Options, TargetBaseModel, TargetLabels, client
from graft.cli.show_estimate import estimate
from graft.cli.watch import watch as follow
from graft.client import Graft
from graft.types import Job

app = typer.Typer(no_args_is_help=True, help="Launch jobs, watch them, read their reports.")
Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, job_…")]


def options(given: Sequence[str] | None) -> dict[str, Any]:
    """`key=value` as a dictionary; values are JSON where they can be, else text."""
    found: dict[str, Any] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE.", param_hint="--option")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def method(name: str | None, given: Sequence[str] | None) -> dict[str, Any] | None:
    """The method as the service takes it; None for its default."""
    chosen = options(given)
    if name is None and chosen:
        raise typer.BadParameter("Options belong to a method: say which with --method.", param_hint="--option")
    return None if name is None else {**chosen, "name": name}


@app.command()
def create(
    ctx: typer.Context,
    *,
    source: Annotated[
        str | None, typer.Option(metavar="DATASET", help="The labelled data set to learn from; `shot` can do without.")
    ] = None,
    method_name: Annotated[str | None, typer.Option("--method", "-m", help="See `graft methods`.")] = None,
    option: Options = None,
    base_model: Annotated[str | None, typer.Option("--base-model", "-b", help="See `graft base-models`.")] = None,
    evaluation: Annotated[str | None, typer.Option(metavar="DATASET", help="A data set to measure on.")] = None,
    target: Annotated[str | None, typer.Option(metavar="DATASET", help="Data of the new domain to adapt to.")] = None,
    target_labels: TargetLabels = None,
    target_base_model: TargetBaseModel = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    max_seconds: Annotated[int | None, typer.Option(min=1, help="Run no longer than this.")] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Told when the job has ended.")] = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", "-w", help="Watch it until it is finished.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    as_json: Json = False,
) -> None:
    """Launch a job, or say what it would cost."""
    if dry_run:
        found = client(ctx).jobs.estimate(
            source,
            method=method(method_name, option),
            base_model=base_model,
            evaluation=evaluation,
            target=target,
            target_labels=target_labels,
            target_base_model=target_base_model,
            max_seconds=max_seconds,
        )
        document(found) if as_json else estimate(found.estimate, found.note)
        return
    job = client(ctx).jobs.create(
        source,
        method=method(method_name, option),
        base_model=base_model,
        evaluation=evaluation,
        target=target,
        target_labels=target_labels,
        target_base_model=target_base_model,
        seed=seed,
        max_seconds=max_seconds,
        webhook=webhook,
    )
    if watch:
        if not as_json:
            note(f"Job {job.id}")
        _watch(client(ctx), job.id, as_json=as_json)
    elif as_json:
        document(job)
    else:
        show.job(job)
        note(f"Watch it:  graft jobs watch {job.id}")


def _watch(service: Graft, job_id: str, *, as_json: bool) -> None:
    job = follow(service, job_id, as_json=as_json)
    if not as_json:
        show.job(job)


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    method_name: Annotated[str | None, typer.Option("--method", "-m", help="Only jobs of this method.")] = None,
    source: Annotated[str | None, typer.Option(metavar="DATASET", help="Only jobs on this data set.")] = None,
    target: Annotated[str | None, typer.Option(metavar="DATASET", help="Only jobs that adapt to this one.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    found = list(client(ctx).jobs.list(state=state, method=method_name, source=source, target=target, limit=limit))
    if as_json:
        document({"data": found})
        return
    rows = [(j.id, j.state, j.method.name, j.base_model, _accuracy(j), j.model_id, j.created_at) for j in found]
    headings = ("id", "state", "method", "base model", "accuracy", "model", "created")
    table(headings, rows, empty="No jobs. Launch one:  graft jobs create --source ds_…")


def _accuracy(job: Job) -> str:
    return f"{job.metrics['accuracy']:.4f}" if "accuracy" in job.metrics else ""


@app.command()
def get(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Show one job."""
    found = client(ctx).jobs.get(job)
    document(found) if as_json else show.job(found)


@app.command()
def watch(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Watch a job until it is finished (from its beginning); Ctrl-C leaves it running."""
    _watch(client(ctx), job, as_json=as_json)


@app.command()
def stop(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Finish a job now and keep the best so far."""
    found = client(ctx).jobs.stop(job)
    document(found) if as_json else note(f"Asked {found.id} to stop and keep the best so far.")


@app.command()
def cancel(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Discard a job."""
    found = client(ctx).jobs.cancel(job)
    gone = f"{found.id} is cancelled." if found.finished else f"Asked {found.id} to cancel."
    document(found) if as_json else note(gone)


@app.command()
def delete(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Delete a finished job; its model stays."""
    client(ctx).jobs.delete(job)
    document({"id": job, "deleted": True}) if as_json else note(f"Deleted {job}.")


@app.command()
def deliveries(ctx: typer.Context, job: Id, as_json: Json = False) -> None:
    """Show what a job's webhook was sent, and what came of it."""
    found = list(client(ctx).jobs.deliveries(job))
    if as_json:
        document({"data": found})
        return
    rows = [(d.id, d.event, d.state, d.attempts, d.last_status, d.last_error, d.url) for d in found]
    table(("id", "event", "state", "attempts", "status", "error", "url"), rows, empty="Nothing was sent of this job.")


@app.command()
def report(
    ctx: typer.Context,
    job: Id,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the HTML page to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a job found out."""
    if html is not None:
        html.write_text(client(ctx).jobs.report_html(job), encoding="utf-8")
        document({"job_id": job, "html": str(html)}) if as_json else say(str(html))
        return
    found = client(ctx).jobs.report(job)
    document(found) if as_json else show.report(found)
