"""Webhooks: word of a job's end."""

from datetime import datetime

from graft.types.base import Resource


class Delivery(Resource):
    """One message to one address; `state` is `pending`, `delivered` or `failed`."""

    id: str
    object: str = "delivery"
    job_id: str
    url: str
    event: str
    state: str
    attempts: int = 0
    last_status: int | None = None
    last_error: str | None = None
    next_at: datetime | None = None
    created_at: datetime
    delivered_at: datetime | None = None
