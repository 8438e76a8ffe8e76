"""Imports: a model's weights from outside, checked against the architecture before they are believed."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import ImportId, Metadata, ModelId, Record
from core.contract.errors import ErrorBody

ImportState = Literal["validating", "ready", "rejected"]


class Import(Record):
    """An import under way, or how it ended."""

    id: ImportId
    object: Literal["import"] = "import"
    state: ImportState
    name: str
    base_model: str | None = Field(default=None, description="The architecture that plain weights are for.")
    classes: list[str] | None = Field(
        default=None, description="Class names of plain weights, in the order of outputs."
    )
    bytes: int
    model_id: ModelId | None = None
    error: ErrorBody | None = None
    metadata: Metadata = {}
    created_at: datetime
    finished_at: datetime | None = None
