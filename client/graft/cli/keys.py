"""`graft keys` and `graft usage`."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from graft.cli.output import document, note, pairs, say, size, table
from graft.cli.session import Json, Limit, client
from graft.types import Key, NewKey

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke access keys (takes an admin's key).")
Id = Annotated[str, typer.Argument(metavar="KEY", help="Id of a key, key_…")]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[Literal["read", "write", "admin"], typer.Option(help="What it may do.")] = "write",
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="Without it the key does not expire.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is printed once, alone on standard output."""
    _tell(client(ctx).keys.create(name, scope=scope, expires_in_days=expires_in_days), as_json)


@app.command("list")
def list_(ctx: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """List keys, newest first; never their secrets."""
    found = list(client(ctx).keys.list(limit=limit))
    if as_json:
        document({"data": found})
        return
    rows = [(k.id, k.name, k.scope, k.prefix, _state(k), k.last_used_at, k.created_at) for k in found]
    table(("id", "name", "scope", "begins", "state", "last used", "created"), rows, empty="No keys.")


@app.command()
def rotate(
    ctx: typer.Context,
    key: Id,
    grace_seconds: Annotated[int, typer.Option(min=0, help="How long the old one still works.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a key with the same name, scope and lifetime in place of this one."""
    _tell(client(ctx).keys.rotate(key, grace_seconds=grace_seconds), as_json)


@app.command()
def revoke(ctx: typer.Context, key: Id, as_json: Json = False) -> None:
    """Make a key worthless, within 5 seconds."""
    client(ctx).keys.revoke(key)
    document({"id": key, "revoked": True}) if as_json else note(f"Revoked {key}.")


def usage(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what your tenant uses, beside its quotas."""
    found = client(ctx).usage()
    if as_json:
        document(found)
        return
    limit = found.quotas.bytes
    pairs(
        [
            ("tenant", found.tenant),
            ("storage", size(found.bytes) + ("" if limit is None else f" of {size(limit)}")),
            ("jobs waiting", _of(found.queued, found.quotas.queued)),
            ("jobs running", _of(found.running, found.quotas.running)),
        ]
    )


def _tell(made: NewKey, as_json: bool) -> None:
    if as_json:
        document(made)
        return
    ends = f", until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else ""
    note(f"{made.id} ({made.name}), scope {made.scope}{ends}. Shown this once:")
    say(made.secret)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "active"


def _of(used: int, limit: int | None) -> str:
    return str(used) if limit is None else f"{used} of {limit}"
