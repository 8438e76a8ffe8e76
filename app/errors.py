"""From errors to replies: one table of statuses, one body."""

import json
import math
import sqlite3
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.nearest import hint_nearest
from app.openapi import allowed_methods
from app.validation import translate
from core.contract.errors import (
    ErrorType,
    GraftError,
    InsufficientStorageError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
    UnsupportedMediaTypeError,
)

STATUS: dict[ErrorType, int] = {
    "invalid_request": 422,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "unavailable": 503,
    "insufficient_storage": 507,
    "job_failed": 500,
    "internal": 500,
}
_CODE_STATUS = {
    "invalid_json": 400,
    "invalid_multipart": 400,
    "invalid_http": 400,
    "invalid_checksum": 400,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "upload_expired": 410,
    "upload_failed": 410,
    "upload_lost": 410,
    "unsupported_tus_version": 412,
    "uri_too_long": 414,
    "range_not_satisfiable": 416,
    "upload_locked": 423,
    "headers_too_large": 431,
    "chunk_checksum_mismatch": 460,  # a status of tus's own
}
_RETRY_AFTER = {429: "1", 503: "2"}

log = structlog.get_logger()


def reply(error: GraftError, request_id: str | None, headers: dict[str, str] | None = None) -> Response:
    """The reply that tells the client of an error."""
    status = _CODE_STATUS.get(error.code, STATUS[type(error).type])
    extra = dict(headers or {})
    if isinstance(error, RateLimitedError):
        extra.setdefault("Retry-After", str(max(1, math.ceil(error.retry_after))))
    if status in _RETRY_AFTER:
        extra.setdefault("Retry-After", _RETRY_AFTER[status])
    body = {"error": error.body(request_id).model_dump(mode="json")}
    # A client may send lone surrogates, which no UTF-8 reply can carry.
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, status, extra, "application/json")


def internal(request_id: str | None) -> Response:
    """The reply to an unexpected error: nothing of the inside is told."""
    error = GraftError(
        "Something broke on our side.", hint="Try again; if it stays, look into the service's log for the request id."
    )
    return reply(error, request_id)


def from_database(error: Exception) -> GraftError | None:
    """A database that is down or full, as the client should see it; None for an error in our own SQL."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError("The database is busy.", code="database_unavailable", hint="Try again in a moment.")
    if not isinstance(error, DBAPIError):
        return None
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError) and "full" in str(cause):
        return InsufficientStorageError("The disk that holds the database is full.", hint="Free space, then try again.")
    if error.connection_invalidated or type(cause).__name__ in ("OperationalError", "InterfaceError"):
        return UnavailableError(
            "The database cannot be reached.", code="database_unavailable", hint="Try again in a moment; see /readyz."
        )
    return None


def install(app: FastAPI) -> None:
    """Teach the application to answer every error with the same body."""
    app.add_exception_handler(GraftError, _graft_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DBAPIError, _database_error)
    app.add_exception_handler(PoolTimeoutError, _database_error)


def request_id(request: Request) -> str | None:
    """The id that the middleware gave to the request."""
    value: str | None = getattr(request.state, "request_id", None)
    return value


async def _graft_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GraftError)
    return reply(error, request_id(request))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return reply(translate(error, request), request_id(request))


async def _database_error(request: Request, error: Exception) -> Response:
    known = from_database(error)
    if known is None:
        raise error
    log.warning("database_error", error=type(error).__name__, reason=str(getattr(error, "orig", error))[:200])
    return reply(known, request_id(request))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    told = getattr(error, "told", None)
    return reply(
        told if isinstance(told, GraftError) else _from_http(request, error, headers), request_id(request), headers
    )


def _from_http(request: Request, error: HTTPException, headers: dict[str, str]) -> GraftError:
    path, status = request.url.path[:200], error.status_code
    if status == 404:
        return NotFoundError(f"There is nothing at {path}.", code="route_not_found", hint=_nearest_route(request, path))
    if status == 405:
        allowed = headers["Allow"] = ", ".join(allowed_methods(request.app, path)) or headers.get("Allow", "")
        message = f"{request.method} is not possible at {path}."
        return InvalidRequestError(message, code="method_not_allowed", hint=f"Use {allowed}." if allowed else None)
    if status == 400:
        return InvalidRequestError("The body cannot be parsed as JSON.", code="invalid_json", hint="Send UTF-8 JSON.")
    plain: dict[int, GraftError] = {
        413: TooLargeError("The body is too large."),
        415: UnsupportedMediaTypeError(str(error.detail)),
    }
    return plain.get(status) or GraftError("Something broke on our side.")


def _nearest_route(request: Request, path: str) -> str:
    routes: list[Any] = list(request.app.openapi()["paths"])
    return hint_nearest(path, routes, say="GET /docs lists every path.")
