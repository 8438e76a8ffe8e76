"""Limits of request bodies: none too long, too slow, packed, or of a hostile shape gets to an endpoint."""

import asyncio
from typing import Any

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import shapes
from app.errors import reply
from core.contract.errors import GraftError, InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from core.settings import Settings

_ITEMS = ("/predict", "/classes")  # ends of paths that take images, texts or rows
_AT_ONCE = 16 * 1024  # bytes of JSON that are looked at without a thread of their own


class BodyLimit:
    """Answers 413 at once for a body that says it is too long, and at the limit for one that does not say.

    A body that stops coming is a 408. JSON is looked at as a whole before anybody acts on it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope)
        body = _Body(receive, send, limit, self.settings.idle_seconds)
        try:
            _refuse_packed(scope)
            if limit is not None and (content_length(scope) or 0) > limit:
                raise too_large(limit)
            if limit == self.settings.max_json_bytes and _is_json(scope):
                await body.read_json()
        except (GraftError, BodyError) as error:
            told = error if isinstance(error, GraftError) else error.told
            await reply(told, scope["state"]["request_id"], getattr(error, "headers", None))(scope, receive, send)
            return
        await self.app(scope, body.receive, body.send)

    def _limit(self, scope: Scope) -> int | None:
        path: str = scope["path"]
        if path in ("/datasets", "/models", "/uploads") or path.startswith("/uploads/"):
            return None  # uploads are streamed to the disk and counted there
        return self.settings.max_predict_bytes if path.endswith(_ITEMS) else self.settings.max_json_bytes


class BodyError(HTTPException):
    """A body that went wrong on the way; being an `HTTPException` it gets through FastAPI's own parsing."""

    def __init__(self, status: int, told: GraftError, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, headers=headers)
        self.told = told


class _Body:
    """A request's body on its way in."""

    def __init__(self, receive: Receive, send: Send, limit: int | None, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._limit, self._seconds = limit, seconds
        self._seen = 0
        self._ended = self._answered = False
        self._read: list[Message] = []

    async def send(self, message: Message) -> None:
        """Pass a message of the reply on."""
        self._answered = True
        await self._send(message)

    async def receive(self) -> Message:
        """The next message; `BodyError` if the body is too long or does not go on."""
        if self._read:
            return self._read.pop(0)
        if self._ended:
            return await self._receive()  # for ever: it tells when the client has gone
        message = await self._next()
        self._ended = not message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        if self._limit is not None and self._seen > self._limit:
            raise BodyError(413, too_large(self._limit))
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._receive()
        except TimeoutError:
            if self._answered:
                return {"type": "http.disconnect"}
            raise BodyError(408, _late(self._seconds), {"Connection": "close"}) from None

    async def read_json(self) -> None:
        """Read all of it, refuse what is hostile, and give it out again as it came."""
        messages: list[Message] = []
        while not messages or not self._ended:
            messages.append(await self.receive())
        whole = b"".join(message.get("body", b"") for message in messages)
        if len(whole) <= _AT_ONCE:
            shapes.check(whole)
        else:
            await to_thread.run_sync(shapes.check, whole)
        if messages[-1]["type"] == "http.request":
            messages = [{"type": "http.request", "body": whole, "more_body": False}]
        self._read = messages


def _late(seconds: float) -> InvalidRequestError:
    return InvalidRequestError(
        f"Nothing of the body came for {seconds:g} seconds.",
        code="request_timeout",
        hint="Send the body without long pauses; large files can be sent in pieces, see POST /uploads.",
    )


def _refuse_packed(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaTypeError(
                "A body with a Content-Encoding is not unpacked.",
                param="Content-Encoding",
                hint="Send the body as it is, without Content-Encoding.",
            )


def _is_json(scope: Scope) -> bool:
    media = _header(scope, b"content-type").split(b";")[0].strip().lower()
    return media.endswith((b"/json", b"+json"))


def too_large(limit: int, *, code: str = "too_large") -> TooLargeError:
    """The error for a body above `limit` bytes."""
    return TooLargeError(
        f"The body is too large: at most {limit:,} bytes.",
        code=code,
        hint="Send less in one request, or have the service's limit raised.",
        details={"limit_bytes": limit},
    )


def content_length(scope: Scope) -> int | None:
    """The length that the client announced, if it did."""
    value = _header(scope, b"content-length")
    return int(value) if value.isdigit() and len(value) < 20 else None


def _header(scope: Scope, wanted: bytes) -> bytes:
    headers: list[tuple[bytes, Any]] = scope["headers"]
    return next((bytes(value) for name, value in headers if name == wanted), b"")
