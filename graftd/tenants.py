"""`graftd tenants`: who shares the service, and how much of it each may use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from core.contract.access import Quotas, TenantName
from core.store import tenants as store
from graftd.books import writing
from graftd.options import data_dir, problems, settings
from graftd.problems import ProblemError

NONE = "none"
_LEAST = {"bytes": 0, "queued": 0, "running": 1}
_MOST = {"bytes": 2**63 - 1, "queued": 2**31 - 1, "running": 2**31 - 1}
_SAYS = {"bytes": "Bytes it may keep", "queued": "Jobs that may wait", "running": "Jobs that may run at once"}


def _quotas(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for the three quotas."""
    for name in reversed(_SAYS):
        says = f"{_SAYS[name]}; `{NONE}` for what GRAFT_QUOTA_{name.upper()} says."
        command = click.option(f"--quota-{name}", callback=_number, help=says)(command)
    return command


def _number(_context: click.Context, option: click.Parameter, text: str | None) -> int | str | None:
    name = str(option.name).removeprefix("quota_")
    if text is None or text == NONE:
        return text
    if not (text.isascii() and text.isdigit() and _LEAST[name] <= int(text[:20]) <= _MOST[name]):
        raise click.BadParameter(f"{text[:40]!r} is neither a whole number from {_LEAST[name]} nor `{NONE}`.")
    return int(text)


def _given(quotas: dict[str, int | str | None]) -> dict[str, int | None]:
    """The quotas that were given, by their names in `Quotas`; `none` takes one away."""
    found = {name.removeprefix("quota_"): value for name, value in quotas.items() if value is not None}
    return {name: value if isinstance(value, int) else None for name, value in found.items()}


@click.group(no_args_is_help=True)
def tenants() -> None:
    """Make tenants, list them, and set what each may use."""


@tenants.command()
@click.argument("name")
@_quotas
@data_dir
def create(name: str, data_dir: Path | None, **quotas: int | str | None) -> None:
    """Make a tenant. Its keys see nothing of other tenants' things."""
    with problems():
        try:
            TypeAdapter(TenantName).validate_python(name)
        except ValidationError as error:
            raise ProblemError(
                f"{name!r} cannot be the name of a tenant.",
                "Take 1 to 64 lower-case letters, digits, - and _, the first a letter or digit.",
            ) from error
        with writing(settings(data_dir=data_dir)) as tx:
            store.add(tx, name, Quotas(**_given(quotas)))
        click.echo(f"Made tenant {name}. Its first key: graftd keys create --tenant {name} --name admin --scope admin")


@tenants.command("list")
@data_dir
def list_(data_dir: Path | None) -> None:
    """List tenants with the quotas of their own and what they use."""
    with problems():
        found = settings(data_dir=data_dir)
        with writing(found) as tx:
            lines = [_line(one, store.usage(tx, one.name, found).bytes) for one in store.all_of(tx)]
        click.echo("\n".join(lines))


@tenants.command("set")
@click.argument("name")
@_quotas
@data_dir
def set_(name: str, data_dir: Path | None, **quotas: int | str | None) -> None:
    """Change what a tenant may use; quotas that are not given stay as they are."""
    with problems():
        with writing(settings(data_dir=data_dir)) as tx:
            changed = store.change(tx, name, _given(quotas))
        click.echo(_line(changed))


def _line(tenant: store.Tenant, used: int | None = None) -> str:
    own = tenant.quotas.model_dump()
    told = "  ".join(f"{name} {'as set for all' if value is None else f'{value:,}'}" for name, value in own.items())
    return f"{tenant.name:20}  {told}" + ("" if used is None else f"  ({used:,} bytes used)")
