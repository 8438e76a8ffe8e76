"""From a request's body to items, in any of the forms that the model's modality has."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from anyio import to_thread
from fastapi import Request
from starlette.exceptions import HTTPException

from app.predictions import json_body, multipart, table_body
from app.predictions.forms import CSV, JSON_LINES, empty, most_items, too_large, too_many, unreadable_type
from app.predictions.items import Inputs, RawItem
from core.contract.datasets import Modality
from core.settings import Settings

Stream = AsyncGenerator[bytes, None]


async def read(request: Request, stream: Stream, modality: Modality, settings: Settings) -> Inputs:
    """Read the body in whichever form it comes; `UnsupportedMediaTypeError` names the forms there are."""
    kind = media_type(request)
    limit = most_items(modality, settings)
    with sized(settings):
        inputs = await _read(kind, request, stream, modality, limit)
    if len(inputs.items) > limit:
        raise too_many(limit)
    return inputs


def media_type(request: Request) -> str:
    """The type of the body, in lower case and without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


@contextmanager
def sized(settings: Settings) -> Iterator[None]:
    """Say of a body that is too long what can be done about it."""
    try:
        yield
    except HTTPException as error:
        raise too_large(settings) if error.status_code == 413 else error from None


async def whole(stream: Stream) -> bytes:
    """All bytes of a body."""
    return b"".join([chunk async for chunk in stream])


async def _read(kind: str, request: Request, stream: Stream, modality: Modality, limit: int) -> Inputs:
    if kind == "application/json":
        return await to_thread.run_sync(json_body.read, await whole(stream), modality, limit)
    if kind == "multipart/form-data" and modality != "tabular":
        return await multipart.read(request, stream, limit)
    if modality == "tabular" and kind in CSV:
        return await to_thread.run_sync(table_body.read_csv, await whole(stream), limit)
    if modality == "tabular" and kind in JSON_LINES:
        return await to_thread.run_sync(table_body.read_json_lines, await whole(stream), limit)
    if _is_one_item(kind, modality):
        body = await whole(stream)
        if not body:
            raise empty(modality)
        return Inputs([RawItem(None, body)])
    raise unreadable_type(kind, modality)


def _is_one_item(kind: str, modality: Modality) -> bool:
    if modality == "image":
        return kind.startswith("image/") or kind == "application/octet-stream"
    return modality == "text" and kind == "text/plain"
