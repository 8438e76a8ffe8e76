"""Sends a stretch of an open file: conditions, ranges, then the bytes, without holding them in memory."""

import os
from dataclasses import dataclass
from typing import BinaryIO

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app import errors
from app.models.ranges import Span, UnsatisfiableRangeError, matches, range_allowed, wanted
from core.contract.errors import InvalidRequestError

CHUNK = 256 * 1024


@dataclass(frozen=True)
class Stretch:
    """Bytes of an open file that are one resource, with the SHA-256 that names them."""

    file: BinaryIO
    offset: int
    size: int
    sha256: str


class StretchResponse(Response):
    """Streams part of a file and closes it; a file that ends early breaks the connection off, so that it is noticed."""

    def __init__(self, stretch: Stretch, span: Span, status: int, headers: dict[str, str], media_type: str) -> None:
        self.stretch = stretch
        self.span = span
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.init_headers(headers | {"Content-Length": str(span.length)})

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the reply."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._stream(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.stretch.file.close()

    async def _stream(self, send: Send) -> None:
        position, stop = self.stretch.offset + self.span.start, self.stretch.offset + self.span.stop
        descriptor = self.stretch.file.fileno()
        while position < stop:
            chunk = await to_thread.run_sync(os.pread, descriptor, min(CHUNK, stop - position), position)
            if not chunk:
                raise RuntimeError(f"a blob ended {stop - position} bytes early")
            position += len(chunk)
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except OSError as error:
                raise ClientDisconnect from error


def answer(request: Request, stretch: Stretch, headers: dict[str, str], media_type: str) -> Response:
    """The reply to a GET or HEAD of the stretch: 200, 206, 304 or 416."""
    etag = f'"{stretch.sha256}"'
    headers = headers | {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("if-none-match"), etag):
        stretch.file.close()
        return Response(status_code=304, headers=headers)
    whole = Span(0, stretch.size)
    try:
        span = _span(request, stretch.size, etag)
    except UnsatisfiableRangeError:
        stretch.file.close()
        return _unsatisfiable(request, stretch.size)
    if span is None:
        return StretchResponse(stretch, whole, 200, headers, media_type)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{stretch.size}"
    return StretchResponse(stretch, span, 206, headers, media_type)


def _span(request: Request, size: int, etag: str) -> Span | None:
    # RFC 9110 defines ranges for GET alone.
    if request.method != "GET" or not range_allowed(request.headers.get("if-range"), etag):
        return None
    return wanted(request.headers.get("range"), size)


def _unsatisfiable(request: Request, size: int) -> Response:
    error = InvalidRequestError(
        "The range lies outside the file.",
        code="range_not_satisfiable",
        param="Range",
        hint=f"The file has {size:,} bytes.",
        details={"size_bytes": size},
    )
    return errors.reply(error, errors.request_id(request), {"Content-Range": f"bytes */{size}"})
