"""Resumable uploads (tus 1.0): a file that comes in pieces and becomes a data set once it is whole."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import DatasetId, Metadata, Record, UploadId
from core.contract.errors import ErrorBody

UploadState = Literal["open", "done", "failed"]


class Upload(Record):
    """A resumable upload."""

    id: UploadId
    object: Literal["upload"] = "upload"
    state: UploadState
    bytes: int = Field(description="Size of the whole file.")
    received: int = Field(description="Bytes that are safely on the disk.")
    metadata: Metadata = {}
    dataset_id: DatasetId | None = Field(default=None, description="The data set it has become.")
    error: ErrorBody | None = None
    created_at: datetime
    expires_at: datetime
