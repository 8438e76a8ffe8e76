"""`graft adapt`: the short road from a folder to a model."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.cli import show
from graft.cli.jobs import method
from graft.cli.models import expand
from graft.cli.output import document, note, say, size
from graft.cli.session import Json, Options, TargetBaseModel, TargetLabels, client
from graft.cli.transfer import download, upload
from graft.cli.watch import watch
from graft.client import DEFAULT_URL, Graft
from graft.types import Dataset


def adapt(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER",
            help="Labelled data: folder, zip or tar, or a ds_… id. `-m shot -b mdl_…` can do without: it adapts a "
            "model of yours to the `--target`.",
        ),
    ] = None,
    *,
    to: Annotated[str | None, typer.Option(metavar="FOLDER", help="Data of the same classes to measure on.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Data of the new domain to adapt to; needs no labels.")
    ] = None,
    target_labels: TargetLabels = None,
    target_base_model: TargetBaseModel = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: that of the folder.")] = None,
    method_name: Annotated[str | None, typer.Option("--method", "-m", help="See `graft methods`.")] = None,
    option: Options = None,
    base_model: Annotated[str | None, typer.Option("--base-model", "-b", help="See `graft base-models`.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of splits and of everything random.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Where to; default <model id>.zip.")] = None,
    images: Annotated[
        list[Path] | None, typer.Option("--predict", metavar="IMAGE", exists=True, help="Classify this; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload a folder, adapt a model to it, show the report, download the model."""
    if source is None and target is None:
        raise typer.BadParameter("Name a folder to learn from, or `--target`, one to adapt to.", param_hint="FOLDER")
    service = client(ctx)
    chosen = method(method_name, option)
    paths = expand(images) if images else []
    named = {"source": (source, name), "evaluation": (to, None), "target": (target, None)}
    sent = {role: _send(service, text, label, seed, as_json=as_json) for role, (text, label) in named.items() if text}
    data = {role: _checked(service, dataset, as_json=as_json) for role, dataset in sent.items()}
    job = service.jobs.create(
        data.get("source"),
        method=chosen,
        base_model=base_model,
        evaluation=data.get("evaluation"),
        target=data.get("target"),
        target_labels=target_labels,
        target_base_model=target_base_model,
        seed=seed,
    )
    if not as_json:
        note(f"Job {job.id}")
    job = _finish(service, job.id, as_json=as_json)
    report = service.jobs.report(job)
    if job.model_id is None:  # a method that looks at the data and makes a report alone
        document({**data, "job": job, "report": report}) if as_json else show.report(report)
        return
    bundle = download(service, job.model_id, output)
    answers = service.models.predict(job.model_id, paths) if paths else None
    if as_json:
        found: dict[str, Any] = {"dataset": data.get("source"), "job": job, "report": report}
        found |= {role: data.get(role) for role in ("evaluation", "target")}
        document(found | {"bundle": str(bundle), "predictions": answers and answers.predictions})
        return
    show.report(report)
    if answers is not None:
        show.predictions(answers.predictions, [str(path) for path in paths])
    _how_to_call(service, job.model_id, bundle)


def _finish(service: Graft, job_id: str, *, as_json: bool) -> Any:
    return service.jobs.wait(job_id) if as_json else watch(service, job_id, as_json=False)


def _send(service: Graft, text: str, name: str | None, seed: int | None, *, as_json: bool) -> Dataset:
    path = Path(text).expanduser()
    if not path.exists():
        if text.startswith("ds_"):
            return service.datasets.get(text)
        raise typer.BadParameter(f"{text!r} is neither a file or folder nor the id of a data set.", param_hint="FOLDER")
    made = upload(service, path, name=name, seed=seed)
    if not as_json:
        note(f"Uploaded {text} ({size(made.bytes)}) as {made.id}; it is being checked …")
    return made


def _checked(service: Graft, dataset: Dataset, *, as_json: bool) -> Dataset:
    ready = service.datasets.wait(dataset)
    if not as_json:
        labels = " without labels" if ready.labelled is False else f" in {len(ready.classes)} classes"
        note(f"{ready.name}: {ready.items} items{labels}.")
        if ready.warnings:
            faults = service.datasets.report(ready).faults
            show.faults([f for f in faults if f.severity == "warning"], on_stderr=True)
    return ready


def _how_to_call(service: Graft, model_id: str, bundle: Path) -> None:
    key = ' -H "Authorization: Bearer $GRAFT_API_KEY"' if service.api_key else ""
    say(f"\nModel {model_id} saved to {bundle} ({size(bundle.stat().st_size)}). Call it:", "bold")
    url = service.base_url
    known = url == (os.environ.get("GRAFT_URL") or DEFAULT_URL).rstrip("/")
    say(f"  graft{'' if known else f' --url {url}'} predict {model_id} photo.jpg")
    say(f"  curl{key} -F files=@photo.jpg {url}/models/{model_id}/predict")
    made = f"Graft({'' if known else repr(url)})"
    say(f"  python -c \"from graft import Graft; print({made}.models.predict({model_id!r}, ['photo.jpg'])[0].label)\"")
