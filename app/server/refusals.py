"""Replies of the server itself, to what never becomes a request."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.errors import reply
from core.contract.base import new_id
from core.contract.errors import GraftError, InvalidRequestError, TooLargeError, UnavailableError

MOST_HEADERS = 100


def written(error: GraftError) -> bytes:
    """A whole HTTP/1.1 reply, after which the connection is closed."""
    request_id = new_id("req")
    headers = {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
    made = reply(error, request_id, headers)
    lines = [name + b": " + value + b"\r\n" for name, value in made.raw_headers]
    return b"".join([STATUS_LINE[made.status_code], *lines, b"\r\n", bytes(made.body)])


def invalid_http(reason: str) -> InvalidRequestError:
    """The bytes are no HTTP, or HTTP that two programs could read in two ways."""
    return InvalidRequestError(
        f"The request is not valid HTTP/1.1: {reason}.",
        code="invalid_http",
        hint="Let an HTTP library write the request.",
    )


def headers_too_large(limit: int) -> TooLargeError:
    """More headers, or longer ones, than are read."""
    return TooLargeError(
        f"The request's line and headers are too large: at most {limit:,} bytes and {MOST_HEADERS} headers.",
        code="headers_too_large",
        hint="Send less in the query and the headers.",
        details={"limit_bytes": limit, "limit_headers": MOST_HEADERS},
    )


def headers_late(seconds: float) -> InvalidRequestError:
    """The headers were begun and never ended."""
    return InvalidRequestError(
        f"The headers did not come within {seconds:g} seconds.",
        code="request_timeout",
        hint="Send the request without pauses.",
    )


def too_many_connections() -> UnavailableError:
    """The server has as many connections as it takes."""
    return UnavailableError(
        "The service has too many connections.", code="too_many_connections", hint="Try again in a moment."
    )
