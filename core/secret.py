"""The service's own key, and the keys that derive from it."""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from core.contract.errors import UnavailableError
from core.settings import Settings

_BYTES = 32


def master(settings: Settings) -> bytes:
    """`GRAFT_SECRET`, or the key in the file `secret` of the data folder, which is made at the first need."""
    if settings.secret is not None and (given := settings.secret.get_secret_value()):
        return given.encode()
    path = settings.root / "secret"
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise UnavailableError(
            "The service's secret is damaged.",
            code="secret_damaged",
            hint="Restore the file `secret` of the data folder, or remove it: all webhook secrets are then new.",
        )
    return key


def _make(path: Path) -> None:
    """Write a new key under a name of its own, then link it: of several makers at once one wins, and all read that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()


def webhook_key(key: bytes, tenant: str, generation: int) -> bytes:
    """The 32 bytes that a tenant's webhooks are signed with; each rotation is a generation of its own."""
    return hmac.digest(key, f"webhook:{tenant}:{generation}".encode(), hashlib.sha256)


def webhook_secret(key: bytes, tenant: str, generation: int) -> str:
    """The same as a receiver takes it: `whsec_` and base64."""
    return "whsec_" + base64.b64encode(webhook_key(key, tenant, generation)).decode()
