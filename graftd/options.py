"""What the commands have in common: settings, options, and how a trouble is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from core.contract.errors import GraftError
from core.settings import Settings
from graftd.problems import ProblemError

data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for everything the service keeps [GRAFT_DATA_DIR]."
)


def settings(**given: Any) -> Settings:
    """Settings from the environment, overridden by the options that were given."""
    return Settings(**{key: value for key, value in given.items() if value is not None})


@contextmanager
def problems() -> Iterator[None]:
    """Tell a trouble in two lines, without a traceback, and end with status 1."""
    try:
        yield
    except (ProblemError, GraftError) as problem:
        click.secho(f"graftd: {problem.message}", fg="red", err=True)
        click.echo(f"  -> {problem.remedy if isinstance(problem, ProblemError) else problem.hint}", err=True)
        raise SystemExit(1) from problem
    except ValidationError as error:
        for fault in error.errors():
            name = "GRAFT_" + "_".join(str(part) for part in fault["loc"]).upper()
            click.secho(f"graftd: {name}: {fault['msg']} (it is {fault['input']!r}).", fg="red", err=True)
        raise SystemExit(1) from error
