"""Access keys, and what a tenant uses."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from graft.types.base import Resource

Scope = Literal["read", "write", "admin"]


class Key(Resource):
    """An access key without its secret; `prefix` is how the secret begins."""

    id: str
    object: str = "key"
    name: str
    scope: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class NewKey(Key):
    """A key just made: `secret` is shown this once."""

    secret: str = Field(repr=False)


class Quotas(Resource):
    """What a tenant may use; None means without limit."""

    bytes: int | None = None
    queued: int | None = None
    running: int | None = None


class Usage(Resource):
    """What your tenant uses now."""

    tenant: str
    bytes: int
    queued: int
    running: int
    quotas: Quotas = Quotas()
