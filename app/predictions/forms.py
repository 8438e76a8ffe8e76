"""What a model takes, by its modality: the media types, the words that say so, and an example."""

from dataclasses import dataclass

from core.contract.datasets import Modality
from core.contract.errors import InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from core.settings import Settings

CSV = ("text/csv", "text/tab-separated-values")
JSON_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")


@dataclass(frozen=True)
class Form:
    """How the items of one modality are sent."""

    key: str
    """Name of an item's content in JSON."""
    things: str
    bodies: str
    example: str


FORMS: dict[Modality, Form] = {
    "image": Form(
        "image",
        "images",
        "multipart/form-data with parts named `files`; one image as the body with its type, e.g. image/jpeg; "
        'application/json as {"items": [{"image": "<base64>"}]}',
        '{"items": [{"image": "<base64>", "name": "…"}]}',
    ),
    "text": Form(
        "text",
        "texts",
        'application/json as {"items": ["one text", "another"]}; one text as the body with the type text/plain; '
        "multipart/form-data with text files named `files`",
        '{"items": [{"text": "…", "name": "…"}]} or {"items": ["…"]}',
    ),
    "tabular": Form(
        "row",
        "rows",
        'application/json as {"items": [{"row": {"column": 1.5}}]}; text/csv with the columns\' names in the first '
        "line; application/x-ndjson with a row, a JSON object, in each line",
        '{"items": [{"row": {"column": 1.5}, "name": "…"}]}',
    ),
}


def most_items(modality: Modality, settings: Settings) -> int:
    """Rows cost a thousandth of what an image or a text costs."""
    return settings.max_predict_rows if modality == "tabular" else settings.max_predict_items


def unreadable_type(kind: str, modality: Modality) -> UnsupportedMediaTypeError:
    """The media type is none that this model's items come in."""
    form = FORMS[modality]
    return UnsupportedMediaTypeError(
        f"The Content-Type is {kind[:100] or 'none'}, which this endpoint does not read for a model of {form.things}.",
        hint=f"This model takes {form.things}. Send {form.bodies}.",
    )


def empty(modality: Modality) -> InvalidRequestError:
    """There is no body."""
    form = FORMS[modality]
    hint = f"This model takes {form.things}. Send {form.bodies}."
    return InvalidRequestError("The body is empty.", code="empty_body", hint=hint)


def too_many(limit: int) -> InvalidRequestError:
    """More items than one request may have."""
    return InvalidRequestError(
        f"There are more than {limit} items in the request.",
        code="too_many_items",
        param="items",
        hint=f"Send at most {limit} in one request, and several requests one after the other.",
        details={"limit_items": limit},
    )


def too_large(settings: Settings) -> TooLargeError:
    """More bytes than one request may have."""
    limit = settings.max_predict_bytes
    return TooLargeError(
        f"The body is too large: at most {limit:,} bytes.",
        hint="Send fewer items in one request, or smaller ones: a model shrinks images and cuts long texts anyway.",
        details={"limit_bytes": limit},
    )
