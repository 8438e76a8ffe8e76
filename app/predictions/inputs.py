"""From a request's body to items: multipart files, one raw image, or JSON with base64."""

import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import Request
from pydantic import FailFast, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from app.nearest import hint_nearest
from core.contract import base
from core.contract.errors import InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from core.contract.models import ImageItem, ItemError
from core.settings import Settings

FORMS = (
    "multipart/form-data with parts named `files`; one image as the body with its type, e.g. image/jpeg; "
    'application/json as {"items": [{"image": "<base64>"}]}'
)
_NAME = 256
_SIGNS = 300  # commas and brackets that an item may have, in its name above all


class PredictRequest(base.Body):
    """JSON body of `POST /models/{id}/predict`."""

    items: Annotated[list[ImageItem], FailFast()] = Field(
        min_length=1, description="The images, each answered on its own."
    )
    top_k: int | None = Field(default=None, ge=1, description="How many classes to name; overrides the query's.")


@dataclass(frozen=True)
class RawItem:
    """One item as it came: its bytes, or why there are none."""

    name: str | None
    data: bytes = b""
    error: ItemError | None = None


@dataclass(frozen=True)
class Inputs:
    """What a request asks to predict."""

    items: list[RawItem]
    top_k: int | None = None


async def read(request: Request, stream: AsyncGenerator[bytes, None], settings: Settings) -> Inputs:
    """Read the body in whichever form it comes; `UnsupportedMediaTypeError` names the forms there are."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            inputs = await _multipart(request, stream, settings.max_predict_items)
        elif kind == "application/json":
            inputs = await to_thread.run_sync(_json, await _whole(stream), settings.max_predict_items)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            inputs = Inputs([RawItem(None, _not_empty(await _whole(stream)))])
        else:
            raise UnsupportedMediaTypeError(
                f"The Content-Type is {kind[:100] or 'none'}, which this endpoint does not read.", hint=f"Send {FORMS}."
            )
    except HTTPException as error:
        raise _too_large(settings) if error.status_code == 413 else error from None
    if len(inputs.items) > settings.max_predict_items:
        raise _too_many(settings.max_predict_items)
    return inputs


async def _whole(stream: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in stream])


def _not_empty(body: bytes) -> bytes:
    if not body:
        raise InvalidRequestError("The body is empty.", code="empty_body", hint=f"Send {FORMS}.")
    return body


def _json(body: bytes, limit: int) -> Inputs:
    # Millions of tiny values take many times their own size once they are parsed. Base64 has none of these signs.
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > _SIGNS * (limit + 1):
        raise _too_many(limit)
    try:
        asked = PredictRequest.model_validate_json(_not_empty(body))
    except ValidationError as error:
        raise _invalid(error) from None
    return Inputs([_from_base64(item) for item in asked.items], asked.top_k)


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


def _invalid(error: ValidationError) -> InvalidRequestError:
    """The first fault as the error, all of them (the first fifty) in `details.errors`."""
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        message = f"The body is not valid JSON: {found[0]['ctx']['error']}."
        return InvalidRequestError(message, code="invalid_json", hint="Send JSON in UTF-8.")
    faults = [
        {"param": ".".join(map(str, one["loc"])), "code": one["type"], "message": one["msg"]} for one in found[:50]
    ]
    param = str(faults[0]["param"]) or "body"
    if found[0]["type"] == "extra_forbidden":
        known = list(PredictRequest.model_fields if len(found[0]["loc"]) == 1 else ImageItem.model_fields)
        hint = hint_nearest(str(found[0]["loc"][-1]), known)
        message, code = f"`{param}` is not a known field.", "unknown_field"
    else:
        message, hint = f"`{param}`: {found[0]['msg'][:300]}.", 'Send {"items": [{"image": "<base64>", "name": "…"}]}.'
        code = "missing_field" if found[0]["type"] == "missing" else "invalid_value"
    return InvalidRequestError(message, code=code, param=param, hint=hint, details={"errors": faults})


class _Parser(MultiPartParser):
    """Notices a body that is cut off, which would otherwise lose its last part without a word."""

    complete = False

    def on_end(self) -> None:
        self.complete = True

    async def parse(self) -> FormData:
        self.stream = self._to_the_end(self.stream)
        return await super().parse()

    async def _to_the_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self.complete:
            raise MultiPartException("it ends before its closing boundary")


async def _multipart(request: Request, stream: AsyncGenerator[bytes, None], limit: int) -> Inputs:
    parser = _Parser(request.headers, stream, max_files=limit, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if len(parser.items) >= limit:
            raise _too_many(limit) from None
        raise InvalidRequestError(
            f"The multipart body cannot be read: {error.message.rstrip('.')}.",
            code="invalid_multipart",
            hint="Let your HTTP library build it, e.g. `curl -F files=@photo.jpg`.",
        ) from None
    try:
        top_k = next((_top_k(value) for key, value in form.multi_items() if key == "top_k"), None)
        items = [await _part(key, value) for key, value in form.multi_items() if key != "top_k"]
    finally:
        await form.close()
    if not items:
        raise InvalidRequestError(
            "There is no part `files`.", code="missing_field", param="files", hint="E.g. `curl -F files=@photo.jpg`."
        )
    return Inputs(items, top_k)


async def _part(key: str, value: UploadFile | str) -> RawItem:
    if key != "files":
        message = f"`{key[:100]}` is not a known part."
        hint = hint_nearest(key, ["files", "top_k"])
        raise InvalidRequestError(message, code="unknown_field", param=key[:100], hint=hint)
    if isinstance(value, str):
        raise InvalidRequestError(
            "A part `files` is text, not a file.",
            code="wrong_type",
            param="files",
            hint="Give the part a file name, e.g. `curl -F files=@photo.jpg`, with the @.",
        )
    return RawItem(value.filename[:_NAME] if value.filename else None, await value.read())


def _top_k(value: UploadFile | str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value):
        return int(value)
    raise InvalidRequestError("`top_k` must be a whole number from 1.", code="wrong_type", param="top_k")


def _too_many(limit: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"There are more than {limit} items in the request.",
        code="too_many_items",
        param="items",
        hint=f"Send at most {limit} in one request, and several requests one after the other.",
        details={"limit_items": limit},
    )


def _too_large(settings: Settings) -> TooLargeError:
    limit = settings.max_predict_bytes
    return TooLargeError(
        f"The body is too large: at most {limit:,} bytes.",
        hint="Send fewer images in one request, or smaller ones: the model shrinks them anyway.",
        details={"limit_bytes": limit},
    )
