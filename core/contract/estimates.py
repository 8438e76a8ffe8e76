"""What a job costs, before and after."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import Record


class Figure(Record):
    """An expected figure with the interval that nine of ten jobs fall into, and what it came to."""

    expected: float
    low: float
    high: float
    actual: float | None = Field(default=None, description="Once the job is over.")


class Estimate(Record):
    """What a job is expected to cost on the worker's device."""

    seconds: Figure
    memory_bytes: Figure = Field(description="Largest resident memory of the job's process; GPU memory on a GPU.")
    disk_bytes: Figure = Field(description="What it adds to the data folder: model, checkpoint, features.")
    parts: dict[str, float] = Field(default={}, description="Expected seconds by step.")
    basis: Literal["measured", "history", "assumed"] = Field(
        description="`measured`: steps timed on the device; `history`: jobs that ran there; `assumed`: neither yet."
    )
    device: str
    fits: bool = True
    advice: list[str] = Field(default=[], description="What would make it fit or cost less.")
    made_at: datetime
