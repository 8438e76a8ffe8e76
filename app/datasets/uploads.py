"""Uploads as streams: bytes go to the disk as they come in, hashed on the way, and never gather in memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fastapi import Request

from app.datasets.forms import FIELDS, FormParts
from app.limits import content_length, too_large
from core.contract.errors import InvalidRequestError, UnsupportedMediaTypeError
from core.store.blobs import BlobFolder, PendingBlob

BATCH_BYTES = 1024 * 1024
BATCHES_AHEAD = 4
FORM = "multipart/form-data"
RAW = (
    "application/zip",
    "application/x-zip-compressed",
    "application/x-tar",
    "application/gzip",
    "application/x-gzip",
    "application/x-compressed-tar",
    "application/octet-stream",
    "text/csv",
    "text/tab-separated-values",
    "application/x-ndjson",
    "application/jsonl",
    "application/vnd.apache.parquet",
)
_FORM_OVERHEAD = 1024 * 1024  # boundaries, part headers and small fields around the file

Feed = Callable[[bytes], None]


async def receive(
    request: Request, blobs: BlobFolder, blob: PendingBlob, max_bytes: int, fields: tuple[str, ...] = FIELDS
) -> FormParts:
    """Write the uploaded file into `blob` (pending in `blobs`) and return what else the form said.

    Raises `UnsupportedMediaTypeError`, `TooLargeError`, `InsufficientStorageError`, `InvalidRequestError` for an empty
    or broken body, `ClientDisconnect` if the client went away.
    """
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media not in (FORM, *RAW):
        raise _unsupported(media)
    limit = max_bytes + (_FORM_OVERHEAD if media == FORM else 0)
    declared = content_length(request.scope)
    if declared is not None and declared > limit:
        raise too_large(max_bytes, code="upload_too_large")
    if declared is not None:
        blobs.expect(declared)
    chunks = _limited(request.stream(), limit, max_bytes)
    form = FormParts(request.headers["content-type"], blob, max_bytes, fields) if media == FORM else None
    await in_batches(chunks, form.feed if form else blob.write)
    if form:
        form.finish()
    if blob.size == 0:
        raise InvalidRequestError(
            "The upload is empty.", code="empty_upload", param="file", hint="Send the file's bytes."
        )
    return form or FormParts.none()


def announced(request: Request) -> int | None:
    """The least size that the file can have by the body's announced length; None without one."""
    declared = content_length(request.scope)
    if declared is None:
        return None
    is_form = request.headers.get("content-type", "").strip().lower().startswith(FORM)
    return max(0, declared - _FORM_OVERHEAD) if is_form else declared


async def _limited(chunks: AsyncIterator[bytes], limit: int, told: int) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > limit:
            raise too_large(told, code="upload_too_large")
        yield chunk


async def in_batches(chunks: AsyncIterator[bytes], feed: Feed) -> None:
    """Call `feed` in a thread with batches of a mebibyte; at most a few wait, so that a slow disk slows the sender."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
    waiting: deque[Future[None]] = deque()
    batch: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            batch.append(chunk)
            size += len(chunk)
            if size < BATCH_BYTES:
                continue
            waiting.append(pool.submit(_feed, feed, batch))
            batch, size = [], 0
            if len(waiting) > BATCHES_AHEAD:
                await asyncio.wrap_future(waiting.popleft())
        waiting.append(pool.submit(_feed, feed, batch))
        while waiting:
            await asyncio.wrap_future(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # after an error: at most one batch is still being written


def _feed(feed: Feed, batch: list[bytes]) -> None:
    feed(b"".join(batch))


def _unsupported(media: str) -> UnsupportedMediaTypeError:
    return UnsupportedMediaTypeError(
        f"An upload cannot have the Content-Type {media[:100] or 'none'}.",
        param="Content-Type",
        hint="Send the file as the part `file` of multipart/form-data, or as the body with its own Content-Type.",
        details={"accepted": [FORM, *RAW]},
    )
