"""JSON bodies: images in base64, texts, rows."""

import base64
import binascii
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, FailFast, Field, ValidationError

from app.nearest import hint_nearest
from app.predictions.forms import FORMS, empty, too_many
from app.predictions.items import Inputs, RawItem
from app.shapes import outside_of_texts
from core.contract import base
from core.contract.datasets import Modality
from core.contract.errors import InvalidRequestError
from core.contract.models import ImageItem, ItemError, RowItem, TextItem

T = TypeVar("T", bound=base.Body)
_SIGNS = 300  # commas and brackets that an image or a text may come with
MOST_CELLS = 500_000
"""Of the rows of one request: each takes some two hundred bytes once it is parsed."""

TopK = Annotated[int | None, Field(ge=1, description="How many classes to name; overrides the query's.")]


def _plain_text(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Images = Annotated[list[ImageItem], FailFast()]
Texts = Annotated[list[Annotated[TextItem, BeforeValidator(_plain_text, str | TextItem)]], FailFast()]
Rows = Annotated[list[RowItem], FailFast()]


class ImagesRequest(base.Body):
    """Images in a JSON body of `POST /models/{id}/predict`."""

    items: Images = Field(min_length=1, description="The images, each answered on its own.")
    top_k: TopK = None


class TextsRequest(base.Body):
    """Texts in a JSON body of `POST /models/{id}/predict`."""

    items: Texts = Field(
        min_length=1, description="The texts, each answered on its own; a plain string is a text without a name."
    )
    top_k: TopK = None


class RowsRequest(base.Body):
    """Rows in a JSON body of `POST /models/{id}/predict`."""

    items: Rows = Field(min_length=1, description="The rows, each answered on its own.")
    top_k: TopK = None


REQUESTS: dict[Modality, type[ImagesRequest | TextsRequest | RowsRequest]] = {
    "image": ImagesRequest,
    "text": TextsRequest,
    "tabular": RowsRequest,
}


def read(body: bytes, modality: Modality, limit: int) -> Inputs:
    """The items of a body that asks for at most `limit`."""
    asked = parse(body, REQUESTS[modality], modality, limit)
    return Inputs([raw(item) for item in asked.items], asked.top_k)


def parse(body: bytes, schema: type[T], modality: Modality, limit: int) -> T:
    """A body with at most `limit` `items` of the modality, and what else the schema has."""
    if not body:
        raise empty(modality)
    check_signs(body, MOST_CELLS if modality == "tabular" else _SIGNS * (limit + 1), limit)
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error, schema, modality) from None


def check_signs(body: bytes, most: int, limit: int) -> None:
    """`too_many_items` for millions of tiny values, which take many times their own size once they are parsed."""
    if _signs(body) > most and _signs(outside_of_texts(body)) > most:
        raise too_many(limit)


def _signs(body: bytes) -> int:
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))


def raw(item: ImageItem | TextItem | RowItem) -> RawItem:
    """The item as it came."""
    if isinstance(item, ImageItem):
        return _from_base64(item)
    return RawItem(item.name, item.text if isinstance(item, TextItem) else item.row)


def _from_base64(item: ImageItem) -> RawItem:
    text = item.image
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return RawItem(item.name, base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except (binascii.Error, ValueError):
        said = "The image is not valid base64."
        hint = "Encode the file's bytes, not its path or its URL."
        return RawItem(item.name, error=ItemError(code="invalid_base64", message=said, hint=hint))


def _invalid(error: ValidationError, schema: type[base.Body], modality: Modality) -> InvalidRequestError:
    """The first fault as the error, all of them (the first fifty) in `details.errors`."""
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        message = f"The body is not valid JSON: {found[0]['ctx']['error']}."
        return InvalidRequestError(message, code="invalid_json", hint="Send JSON in UTF-8.")
    faults = [{"param": _param(one["loc"]), "code": one["type"], "message": one["msg"]} for one in found[:50]]
    form, details = FORMS[modality], {"errors": faults}
    foreign = {other.key: other.things for other in FORMS.values() if other is not form}
    for one in found:
        if one["type"] == "extra_forbidden" and len(one["loc"]) == 3 and one["loc"][2] in foreign:
            message = f"`{_param(one['loc'])}`: this model takes {form.things}, not {foreign[str(one['loc'][2])]}."
            hint = f"Send {form.example}."
            return InvalidRequestError(
                message, code="wrong_modality", param=_param(one["loc"]), hint=hint, details=details
            )
    param = str(faults[0]["param"]) or "body"
    if found[0]["type"] == "extra_forbidden":
        known = list(schema.model_fields) if len(found[0]["loc"]) == 1 else [form.key, "name"]
        message, code = f"`{param}` is not a known field.", "unknown_field"
        hint = hint_nearest(str(found[0]["loc"][-1]), known)
    else:
        message, code = f"`{param}`: {_reason(found[0])}.", "invalid_value"
        hint = f"This model takes {form.things}. Send {form.example}."
        code = "missing_field" if found[0]["type"] == "missing" else "invalid_value"
    return InvalidRequestError(message, code=code, param=param, hint=hint, details=details)


def _reason(fault: Any) -> str:
    if fault["loc"][2:3] == ("row",) and len(fault["loc"]) > 3:
        return "A cell is a text, a number, true, false or null"
    return str(fault["msg"])[:300]


def _param(place: tuple[int | str, ...]) -> str:
    """Where it stands; what comes after a cell's column are the types that were tried."""
    return ".".join(map(str, place[:4]))[:200]
