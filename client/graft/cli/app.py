"""The root of the command line."""

import sys
from typing import Annotated

import typer

from graft._version import __version__
from graft.cli import datasets, failures, jobs, keys, menus, models
from graft.cli.adapt import adapt
from graft.cli.session import Session
from graft.errors import GraftError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt pretrained models to your own data.",
    epilog="Exit codes: 0 ok, 1 error of the service, 2 usage, 3 job failed, 4 data set rejected, 5 cannot connect.",
)
app.command()(adapt)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.command()(models.predict)
app.command()(menus.methods)
app.command("base-models")(menus.base_models)
app.command()(menus.health)
app.command()(keys.usage)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"graft {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="GRAFT_URL", help="Address of the service.", show_default="http://127.0.0.1:8000"),
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="GRAFT_API_KEY", help="Sent as Bearer token.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of silence to put up with.")] = 60.0,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Adapt pretrained models to your own data."""
    del version
    ctx.obj = session = Session(url, api_key, timeout)
    ctx.call_on_close(session.close)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in SystemExit."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=given, prog_name="graft")
    except (GraftError, OSError, ValueError) as error:
        failures.tell(error, as_json="--json" in given)
        sys.exit(failures.exit_code(error))
