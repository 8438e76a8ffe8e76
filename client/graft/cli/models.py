"""`graft models` and `graft predict`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from graft.cli import show
from graft.cli.output import document, note, say, size, table
from graft.cli.session import Json, Limit, client
from graft.cli.transfer import bar
from graft.cli.transfer import download as fetch
from graft.types import Predictions

app = typer.Typer(no_args_is_help=True, help="Look at models, download and delete them.")
Id = Annotated[str, typer.Argument(metavar="MODEL", help="Id of a model, mdl_…")]
ClassName = Annotated[str, typer.Argument(metavar="CLASS", help="Name of the class; it may hold /.")]
TopK = Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="How many classes to show.")]


@app.command("list")
def list_(ctx: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """List models, newest first."""
    found = list(client(ctx).models.list(limit=limit))
    if as_json:
        document({"data": found})
        return
    rows = [
        (m.id, m.method, m.base_model, len(m.classes), m.metrics.get("accuracy"), size(m.bytes), m.created_at)
        for m in found
    ]
    headings = ("id", "method", "base model", "classes", "accuracy", "size", "created")
    table(headings, rows, empty="No models. Make one:  graft adapt FOLDER")


@app.command()
def get(ctx: typer.Context, model: Id, as_json: Json = False) -> None:
    """Show one model."""
    found = client(ctx).models.get(model)
    document(found) if as_json else show.model(found)


@app.command()
def download(
    ctx: typer.Context,
    model: Id,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File or folder; default <id>.zip.")] = None,
    as_json: Json = False,
) -> None:
    """Download a model's bundle; goes on where an earlier try was cut off."""
    path = fetch(client(ctx), model, output)
    document({"id": model, "path": str(path), "bytes": path.stat().st_size}) if as_json else say(str(path))


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A bundle or safetensors.")],
    *,
    base_model: Annotated[str | None, typer.Option(help="The network that plain weights are for.")] = None,
    classes: Annotated[str | None, typer.Option(help="Names of its outputs, in order, with commas between.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the import; default: that of the file.")] = None,
    as_json: Json = False,
) -> None:
    """Import weights from outside and show the model they have become."""
    names = None if classes is None else [part.strip() for part in classes.split(",")]
    with bar(f"Uploading {file.name}") as on_bytes:
        made = client(ctx).models.import_(
            file, name=name, base_model=base_model, classes=names, wait=False, on_progress=on_bytes
        )
    if not as_json:
        note(f"Uploaded {size(made.bytes)} as {made.id}; it is being checked …")
    made = client(ctx).models.wait_import(made)
    document(made) if as_json else show.model(client(ctx).models.get(str(made.model_id)))


@app.command()
def publish(
    ctx: typer.Context,
    model: Id,
    override: Annotated[str | None, typer.Option(help="Why, although its verdict is harmful.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a model: it may be used, and cannot be deleted until it is withdrawn."""
    found = client(ctx).models.publish(model, override=override)
    document(found) if as_json else note(f"Published {model}.")


@app.command()
def withdraw(ctx: typer.Context, model: Id, as_json: Json = False) -> None:
    """Take the publication of a model back."""
    client(ctx).models.withdraw(model)
    document({"id": model, "publication": None}) if as_json else note(f"Withdrew {model}.")


@app.command("add-class")
def add_class(
    ctx: typer.Context,
    model: Id,
    name: ClassName,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", exists=True, help="A few items of it, or folders of them.")
    ] = None,
    *,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text of the class; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Add a class to a few-shot model from a few items, without training; shows the new model, the old one stays."""
    found = client(ctx).models.add_class(model, name, expand(files) if files else [], items=text or [])
    document(found) if as_json else show.model(found)


@app.command("remove-class")
def remove_class(ctx: typer.Context, model: Id, name: ClassName, as_json: Json = False) -> None:
    """Take a class from a few-shot model; shows the new model, the old one stays."""
    found = client(ctx).models.remove_class(model, name)
    document(found) if as_json else show.model(found)


@app.command()
def delete(ctx: typer.Context, model: Id, as_json: Json = False) -> None:
    """Delete a model."""
    client(ctx).models.delete(model)
    document({"id": model, "deleted": True}) if as_json else note(f"Deleted {model}.")


def predict(
    ctx: typer.Context,
    model: Id,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", exists=True, help="Image files, or folders of them.")
    ],
    top_k: TopK = None,
    as_json: Json = False,
) -> None:
    """Classify images. Exits with 1 if one of them could not be read; the others are shown all the same."""
    paths = expand(images)
    answers = client(ctx).models.predict(model, paths, top_k=top_k)
    if as_json:
        document(answers)
    else:
        show.predictions(answers.predictions, [str(path) for path in paths])
    raise typer.Exit(1 if _any_failed(answers) else 0)


def _any_failed(answers: Predictions) -> bool:
    return any(item.error for item in answers.predictions)


def expand(images: Sequence[Path]) -> list[Path]:
    """Folders become the files in them."""
    found = [path for image in images for path in (_files(image) if image.is_dir() else [image])]
    if not found:
        raise typer.BadParameter("There are no files in it.", param_hint="IMAGE")
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path
