"""What clients send with a model."""

from typing import Annotated, Any

from pydantic import Field, Json, TypeAdapter, ValidationError, field_validator

from app.datasets.schemas import Name
from app.dependencies import Paging
from app.validation import FieldsError
from core.contract.base import Metadata, Request
from core.contract.imports import ImportState

FIELDS = ("name", "base_model", "classes", "metadata")
_NAMES = TypeAdapter(list[Annotated[str, Field(min_length=1, max_length=1024, strict=True)]])


class ImportFields(Request):
    """What may be said beside the file, as query parameters or as parts of the form."""

    name: Name | None = Field(default=None, description="A name for people; the file's name without it.")
    base_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="The network that plain weights are for: a card's id, or `timm:<name>`.",
    )
    classes: Json[Any] | None = Field(
        default=None, description='Names of the classifier\'s outputs in order, as JSON text: ["cat", "dog"].'
    )
    metadata: Json[Metadata] = Field(default={}, description='Your own labels, as JSON text: {"team": "vision"}.')

    @field_validator("classes")  # FastAPI would take a declared list for a repeated parameter
    @classmethod
    def _are_names(cls, value: Any) -> list[str] | None:
        return None if value is None else _NAMES.validate_python(value)


def import_fields(query: ImportFields, form: dict[str, str]) -> ImportFields:
    """The query's fields, overridden by the form's; a wrong one is a 422 that names it."""
    if not form:
        return query
    try:
        sent = ImportFields.model_validate(form)
    except ValidationError as error:
        raise FieldsError(error.errors(), ImportFields) from error
    values: dict[str, Any] = {name: getattr(sent, name) for name in sent.model_fields_set}
    return query.model_copy(update=values)


class ImportFilter(Paging):
    """Parameters of `GET /imports`."""

    state: ImportState | None = Field(default=None, description="Only imports in this state.")
