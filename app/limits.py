"""Limits of request bodies: more than is allowed is never read into memory, with a length or without."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import reply
from core.contract.errors import TooLargeError
from core.settings import Settings


class BodyLimit:
    """Answers 413 at once for a body that says it is too long, and at the limit for one that does not say."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        limit = self._limit(scope) if scope["type"] == "http" else None
        if limit is None:
            await self.app(scope, receive, send)
            return
        declared = content_length(scope)
        if declared is not None and declared > limit:
            await reply(too_large(limit), scope["state"]["request_id"])(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLargeError(limit)
            return message

        await self.app(scope, counted, send)

    def _limit(self, scope: Scope) -> int | None:
        path: str = scope["path"]
        if path in ("/datasets", "/models", "/uploads") or path.startswith("/uploads/"):
            return None  # uploads are streamed to the disk and counted there
        return self.settings.max_predict_bytes if path.endswith("/predict") else self.settings.max_json_bytes


class BodyTooLargeError(HTTPException):
    """A body that went over its limit on the way; being an `HTTPException` it gets through FastAPI's own parsing."""

    def __init__(self, limit: int) -> None:
        super().__init__(413)
        self.told = too_large(limit)


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
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None
