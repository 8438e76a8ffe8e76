"""What clients send to `/keys` and `/audit`."""

from pydantic import Field

from app.dependencies import Paging
from core.contract.base import KeyId, Request

DAY = 24 * 3600


class RotateRequest(Request):
    """Body of `POST /keys/{key_id}/rotate`."""

    grace_seconds: int = Field(
        default=0, strict=True, ge=0, le=30 * DAY, description="How long the old secret still works; 0 ends it at once."
    )


class AuditFilter(Paging):
    """Which entries of the audit log to list."""

    action: str | None = Field(
        default=None, pattern=r"^[a-z_]{1,64}$", description="Only this operation, e.g. `delete_dataset`."
    )
    key_id: KeyId | None = Field(default=None, description="Only what was done with this key.")
