"""Access: keys, what a caller may do, what a tenant may use, and who did what."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from core.contract.base import KeyId, Record, Request

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""In rising order: each covers those before it."""

DEFAULT_TENANT = "default"
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
KeyName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Caller(Record):
    """Who sends a request; `key_id` is None where the service runs on loopback without keys."""

    tenant: TenantName
    scope: Scope
    key_id: KeyId | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller's scope covers `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class KeyRequest(Request):
    """Body of `POST /keys`."""

    name: KeyName = Field(description="What the key is for.")
    scope: Scope = Field(
        default="write", description="`read` looks and predicts, `write` also changes, `admin` also manages keys."
    )
    expires_in_days: int | None = Field(
        default=None, strict=True, ge=1, le=3650, description="Without it the key does not expire."
    )


class Key(Record):
    """An access key as it is shown: never the secret itself."""

    id: KeyId
    object: Literal["key"] = "key"
    name: str
    scope: Scope
    prefix: str = Field(description="How the key begins, to tell keys apart.")
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = Field(default=None, description="To within a minute.")
    revoked_at: datetime | None = None


class NewKey(Key):
    """A key just made: the only time that the secret is shown."""

    secret: str = Field(
        repr=False, description="Send it as `Authorization: Bearer <secret>`. It is stored hashed and not shown again."
    )


class Quotas(Record):
    """What a tenant may use; None means without limit."""

    bytes: int | None = Field(default=None, description="Bytes of data sets, models and unfinished uploads.")
    queued: int | None = Field(default=None, description="Jobs that wait.")
    running: int | None = Field(default=None, description="Jobs that run at the same time.")


class Usage(Record):
    """What a tenant uses, beside what it may."""

    tenant: TenantName
    bytes: int
    queued: int
    running: int
    quotas: Quotas


class AuditEntry(Record):
    """Somebody did something."""

    id: str
    at: datetime
    key_id: str | None
    action: str = Field(description="The operation, e.g. `delete_dataset`.")
    target: str | None = Field(default=None, description="The id it was done to, or that it made.")
    status: int = Field(description="HTTP status of the reply.")
    request_id: str | None = None
    address: str | None = Field(default=None, description="The client's address.")
    details: dict[str, Any] = {}
