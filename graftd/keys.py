"""`graftd keys`: access keys of any tenant, made by whoever sits at the server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from sqlalchemy import Connection

from core.contract.access import DEFAULT_TENANT, SCOPES, Key, NewKey, Scope
from core.contract.errors import NotFoundError
from core.store import keys as store
from core.store import tenants
from graftd.books import writing
from graftd.options import data_dir, problems, settings

_key_id = click.argument("key_id", metavar="KEY")


@click.group(no_args_is_help=True)
def keys() -> None:
    """Make, list, rotate and revoke access keys."""


@keys.command()
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scope", type=click.Choice(SCOPES), default="write", show_default=True, help="What it may do.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose things it sees.")
@click.option("--expires-in-days", type=click.IntRange(1, 3650), help="Without it the key does not expire.")
@data_dir
def create(name: str, scope: Scope, tenant: str, expires_in_days: int | None, data_dir: Path | None) -> None:
    """Make a key. Its secret is printed once, alone on standard output: KEY=$(graftd keys create --name me)."""
    if not 1 <= len(name.strip()) <= 128:
        raise click.BadParameter("It takes 1 to 128 characters.", param_hint="--name")
    lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
    with problems():
        with writing(settings(data_dir=data_dir)) as tx:
            tenants.require(tx, tenant)
            made = store.add(tx, tenant, name.strip(), scope, lifetime=lifetime)
        _show(made, tenant)


@keys.command("list")
@click.option("--tenant", help="Only of this tenant.")
@data_dir
def list_(tenant: str | None, data_dir: Path | None) -> None:
    """List keys, newest first; never their secrets."""
    with problems():
        with writing(settings(data_dir=data_dir)) as tx:
            found = store.everybodys(tx, tenant)
        for whose, key in found:
            click.echo("  ".join((key.id, f"{whose:12}", f"{key.scope:5}", key.prefix, _state(key), key.name)))
        if not found:
            click.echo("There are no keys.", err=True)


@keys.command()
@_key_id
@data_dir
def revoke(key_id: str, data_dir: Path | None) -> None:
    """Make a key worthless, within 5 seconds."""
    with problems():
        with writing(settings(data_dir=data_dir)) as tx:
            store.revoke(tx, _tenant(tx, key_id), key_id)
        click.echo(f"Revoked {key_id}.", err=True)


@keys.command()
@_key_id
@click.option(
    "--grace-seconds", type=click.IntRange(0, 30 * 24 * 3600), default=0, help="How long the old one still works."
)
@data_dir
def rotate(key_id: str, grace_seconds: int, data_dir: Path | None) -> None:
    """Make a key with the same name, scope and lifetime in place of this one."""
    with problems():
        with writing(settings(data_dir=data_dir)) as tx:
            tenant = _tenant(tx, key_id)
            made = store.rotate(tx, tenant, key_id, grace=timedelta(seconds=grace_seconds))
        _show(made, tenant)


def _tenant(tx: Connection, key_id: str) -> str:
    tenant = store.owner(tx, key_id)
    if tenant is None:
        raise NotFoundError(f"There is no key {key_id}.", hint="graftd keys list shows them.")
    return tenant


def _show(made: NewKey, tenant: str) -> None:
    ends = f", until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else ""
    click.echo(f"{made.id}: scope {made.scope}, tenant {tenant}{ends}. Shown this once:", err=True)
    click.echo(made.secret)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return "expired"
    return "active "
