"""Webhooks: word of a job's end, signed, sent until it is taken or too often refused."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import DeliveryId, JobId, Record

DeliveryState = Literal["pending", "delivered", "failed"]


class Delivery(Record):
    """One message to one address."""

    id: DeliveryId
    object: Literal["delivery"] = "delivery"
    job_id: JobId
    url: str
    event: str = Field(description="E.g. `job.succeeded`.")
    state: DeliveryState
    attempts: int
    last_status: int | None = Field(default=None, description="HTTP status of the latest answer.")
    last_error: str | None = None
    next_at: datetime | None = Field(default=None, description="When it is sent next.")
    created_at: datetime
    delivered_at: datetime | None = None


class WebhookSecret(Record):
    """What signatures are made with (https://www.standardwebhooks.com)."""

    secret: str = Field(description="`whsec_` and the key in base64.")
