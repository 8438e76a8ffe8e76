"""What clients send with data sets, and the shape of a sample."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, Json, ValidationError
from pydantic_core import PydanticCustomError

from app.dependencies import Paging
from app.validation import FieldsError
from core.contract.base import Metadata, Record, Request
from core.contract.datasets import DatasetState, Reading, Split

SHOWN_CHARACTERS = 2_000


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("not_printable", "control characters are not allowed")
    return value


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]


class UploadFields(Reading):
    """What may be said beside the file, as query parameters or as parts of the form."""

    name: Name | None = Field(default=None, description="A name for people; the file's name without it.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the splits that are made.")
    metadata: Json[Metadata] = Field(default={}, description='Your own labels, as JSON text: {"team": "vision"}.')

    @property
    def reading(self) -> Reading:
        """How the file is to be read."""
        return Reading(**{name: getattr(self, name) for name in Reading.model_fields})


def upload_fields(query: UploadFields, form: dict[str, str]) -> UploadFields:
    """The query's fields, overridden by the form's; a wrong one is a 422 that names it."""
    if not form:
        return query
    sent: dict[str, Any] = dict(form)
    for name in query.model_fields_set - {"metadata"}:
        sent.setdefault(name, getattr(query, name))
    try:
        fields = UploadFields.model_validate(sent)
    except ValidationError as error:
        raise FieldsError(error.errors(), UploadFields) from error
    if "metadata" in sent:
        return fields
    return fields.model_copy(update={"metadata": query.metadata})


class DatasetFilter(Paging):
    """Parameters of `GET /datasets`."""

    state: DatasetState | None = Field(default=None, description="Only data sets in this state.")


class SampleFilter(Paging):
    """Parameters of `GET /datasets/{id}/samples`."""

    split: Split | None = Field(default=None, description="Only this split.")
    label: str | None = Field(default=None, max_length=512, description="Only this class.")


class ThumbnailSize(Request):
    """Parameters of `GET /datasets/{id}/samples/{index}`."""

    size: int = Field(default=160, ge=16, le=1024, description="Longest side in pixels; images are never enlarged.")


class Sample(Record):
    """An item of a data set, to look at."""

    index: int
    name: str = Field(description="Path inside the upload, or the number of a table's row.")
    label: str | None = None
    labels: list[str] | None = Field(default=None, description="Its classes, for `multi_label`.")
    value: float | None = Field(default=None, description="Its value, for `regression`.")
    split: Split
    text: str | None = Field(default=None, description=f"A text's first {SHOWN_CHARACTERS:,} characters.")
    row: dict[str, str | float | bool | None] | None = Field(default=None, description="A table's row by its columns.")
    url: str = Field(description="Where it can be had: a small JPEG, a whole text, or a row as JSON.")
