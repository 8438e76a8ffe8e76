"""`graft datasets`."""

from pathlib import Path
from typing import Annotated

import typer

from graft.cli import show
from graft.cli.output import document, note, size, table
from graft.cli.session import Json, Limit, client
from graft.cli.transfer import upload as send

app = typer.Typer(no_args_is_help=True, help="Upload data and see what the service found in it.")
Id = Annotated[str, typer.Argument(metavar="DATASET", help="Id of a data set, ds_…")]


@app.command()
def upload(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", exists=True, help="A zip or tar, a table (CSV, JSON lines, Parquet), or a folder."
        ),
    ],
    *,
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: that of the file.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the splits that are made.")] = None,
    target: Annotated[str | None, typer.Option(help="A table's column to predict; default: found by its name.")] = None,
    text: Annotated[str | None, typer.Option(help="A table's column of texts; default: found by its contents.")] = None,
    split: Annotated[str | None, typer.Option(help="A table's column with train, validation or test.")] = None,
    modality: Annotated[str | None, typer.Option(help="image, text or tabular; default: found out.")] = None,
    problem: Annotated[str | None, typer.Option(help="classification, multi_label or regression.")] = None,
    resumable: Annotated[
        bool | None, typer.Option(help="Send it in pieces that outlive a broken connection; default: above 64 MiB.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is checked.")] = True,
    as_json: Json = False,
) -> None:
    """Upload a data set."""
    said = {"target": target, "text": text, "split": split, "modality": modality, "problem": problem}
    made = send(client(ctx), path, name=name, seed=seed, resumable=resumable, said=said)
    if wait:
        if not as_json:
            note(f"Uploaded {size(made.bytes)} as {made.id}; it is being checked …")
        made = client(ctx).datasets.wait(made)
    if as_json:
        document(made)
        return
    show.dataset(made)
    if made.warnings:
        show.faults(client(ctx).datasets.report(made).faults)


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="uploading, validating, ready or rejected.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List data sets, newest first."""
    found = list(client(ctx).datasets.list(state=state, limit=limit))
    if as_json:
        document({"data": found})
        return
    rows = [(d.id, d.name, d.state, d.items, len(d.classes), size(d.bytes), d.created_at) for d in found]
    table(
        ("id", "name", "state", "items", "classes", "size", "created"),
        rows,
        empty="No data sets. Upload one:  graft datasets upload FOLDER",
    )


@app.command()
def get(ctx: typer.Context, dataset: Id, as_json: Json = False) -> None:
    """Show one data set."""
    found = client(ctx).datasets.get(dataset)
    document(found) if as_json else show.dataset(found)


@app.command()
def report(ctx: typer.Context, dataset: Id, as_json: Json = False) -> None:
    """Show every fault, class and size that was found in a data set."""
    found = client(ctx).datasets.report(dataset)
    document(found) if as_json else show.dataset_report(found)


@app.command()
def samples(
    ctx: typer.Context,
    dataset: Id,
    *,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    label: Annotated[str | None, typer.Option(help="Only items of this class.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List some items of a data set."""
    found = list(client(ctx).datasets.samples(dataset, split=split, label=label, limit=limit))
    if as_json:
        document({"data": found})
    else:
        table(("index", "name", "label", "split"), [(s.index, s.name, s.label, s.split) for s in found])


@app.command()
def delete(ctx: typer.Context, dataset: Id, as_json: Json = False) -> None:
    """Delete a data set."""
    client(ctx).datasets.delete(dataset)
    document({"id": dataset, "deleted": True}) if as_json else note(f"Deleted {dataset}.")
