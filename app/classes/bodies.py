"""What a new class is made of: its name and a few items, in JSON or as a form."""

import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Request
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from app.predictions import json_body, multipart
from app.predictions.bodies import EXAMPLES, FILES, inlined
from app.predictions.forms import FORMS, most_items, too_many
from app.predictions.inputs import Stream, media_type, sized, whole
from app.predictions.items import RawItem
from app.validation import FieldsError
from core.contract import base
from core.contract.datasets import Modality
from core.contract.errors import UnsupportedMediaTypeError
from core.settings import Settings

MOST_LETTERS = 1024  # as of a path in an archive, from which classes of data sets have their names


def spelt(name: str) -> str:
    """A class name as data sets have them: in Unicode NFC."""
    return unicodedata.normalize("NFC", name)


def _clean(name: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise PydanticCustomError("not_printable", "control characters are not allowed")
    if set(name.split("/")) & {"", ".", ".."}:
        raise PydanticCustomError("not_a_path", "nothing, `.` or `..` may not stand at an end or between two `/`")
    return spelt(name)


ClassName = Annotated[str, Field(min_length=1, max_length=MOST_LETTERS), AfterValidator(_clean)]
_NAME = "Name of the new class; it may hold `/`, as names of nested folders do."


class ImagesOfClass(base.Body):
    """A class and images of it."""

    name: ClassName = Field(description=_NAME)
    items: json_body.Images = Field(min_length=1, description="Images of the class; five do well.")


class TextsOfClass(base.Body):
    """A class and texts of it."""

    name: ClassName = Field(description=_NAME)
    items: json_body.Texts = Field(min_length=1, description="Texts of the class; a plain string is one without name.")


class RowsOfClass(base.Body):
    """A class and rows of it."""

    name: ClassName = Field(description=_NAME)
    items: json_body.Rows = Field(min_length=1, description="Rows of the class.")


class ClassFields(base.Request):
    """What a form says beside its files."""

    name: ClassName = Field(description=_NAME)


SCHEMAS: dict[Modality, type[ImagesOfClass | TextsOfClass | RowsOfClass]] = {
    "image": ImagesOfClass,
    "text": TextsOfClass,
    "tabular": RowsOfClass,
}


@dataclass(frozen=True)
class NewClass:
    """A class that is to be added."""

    name: str
    items: list[RawItem]


async def read(request: Request, stream: Stream, modality: Modality, settings: Settings) -> NewClass:
    """Read the body; `UnsupportedMediaTypeError` names the forms there are."""
    limit = most_items(modality, settings)
    with sized(settings):
        found = await _read(request, stream, modality, limit)
    if len(found.items) > limit:
        raise too_many(limit)
    return found


async def _read(request: Request, stream: Stream, modality: Modality, limit: int) -> NewClass:
    kind = media_type(request)
    if kind == "application/json":
        body = await whole(stream)
        asked = await to_thread.run_sync(json_body.parse, body, SCHEMAS[modality], modality, limit)
        return NewClass(asked.name, [json_body.raw(item) for item in asked.items])
    if kind == "multipart/form-data" and modality != "tabular":
        form = await multipart.parts(request, stream, limit, "name")
        return NewClass(_name(form.field), form.items)
    raise _unreadable(kind, modality)


def _name(field: Any) -> str:
    try:
        return ClassFields.model_validate({} if field is None else {"name": field}).name
    except ValidationError as error:
        raise FieldsError(error.errors(include_input=False), ClassFields) from None


def _unreadable(kind: str, modality: Modality) -> UnsupportedMediaTypeError:
    form = FORMS[modality]
    files = "" if modality == "tabular" else "; or multipart/form-data with the part `name` and files named `files`"
    return UnsupportedMediaTypeError(
        f"The Content-Type is {kind[:100] or 'none'}, which this endpoint does not read for a model of {form.things}.",
        hint=f'Send application/json as {{"name": "…", {form.example[1:]}{files}.',
    )


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The items are of the model's `modality`: `image`, `text` or `tabular`.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [inlined(schema.model_json_schema()) for schema in SCHEMAS.values()]},
                "examples": {
                    what: {
                        "summary": example["summary"],
                        "value": {"name": "Greek/alpha", "items": example["value"]["items"]},
                    }
                    for what, example in EXAMPLES.items()
                },
            },
            "multipart/form-data": {
                "schema": FILES
                | {
                    "required": ["name", "files"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": MOST_LETTERS},
                        "files": FILES["properties"]["files"],
                    },
                }
            },
        },
    }
}
