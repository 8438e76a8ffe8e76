"""From a request's body to items, in any of the forms that the model's modality has."""

from collections.abc import AsyncGenerator

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
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    limit = most_items(modality, settings)
    try:
        inputs = await _read(kind, request, stream, modality, limit)
    except HTTPException as error:
        raise too_large(settings) if error.status_code == 413 else error from None
    if len(inputs.items) > limit:
        raise too_many(limit)
    return inputs


async def _read(kind: str, request: Request, stream: Stream, modality: Modality, limit: int) -> Inputs:
    if kind == "application/json":
        return await to_thread.run_sync(json_body.read, await _whole(stream), modality, limit)
    if kind == "multipart/form-data" and modality != "tabular":
        return await multipart.read(request, stream, limit)
    if modality == "tabular" and kind in CSV:
        return await to_thread.run_sync(table_body.read_csv, await _whole(stream), limit)
    if modality == "tabular" and kind in JSON_LINES:
        return await to_thread.run_sync(table_body.read_json_lines, await _whole(stream), limit)
    if _is_one_item(kind, modality):
        body = await _whole(stream)
        if not body:
            raise empty(modality)
        return Inputs([RawItem(None, body)])
    raise unreadable_type(kind, modality)


def _is_one_item(kind: str, modality: Modality) -> bool:
    if modality == "image":
        return kind.startswith("image/") or kind == "application/octet-stream"
    return modality == "text" and kind == "text/plain"


async def _whole(stream: Stream) -> bytes:
    return b"".join([chunk async for chunk in stream])
