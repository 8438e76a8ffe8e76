"""Errors as classes: each has a stable `code`; its `type` tells which kind of trouble it is.

Only the API knows HTTP: it maps `type` to a status. The same body stands in `job.error` and `dataset.error`.
"""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

ErrorType = Literal[
    "invalid_request",  # 422: the request itself is wrong (400 where it cannot even be parsed)
    "unauthenticated",  # 401: no key, or one that is not valid
    "forbidden",  # 403: the key's scope does not cover the call
    "not_found",  # 404
    "conflict",  # 409: the request is right, but not in this state
    "too_large",  # 413
    "unsupported_media_type",  # 415
    "rate_limited",  # 429
    "unavailable",  # 503
    "insufficient_storage",  # 507
    "job_failed",  # never a reply of its own: stands in `job.error`
    "internal",  # 500
]


class ErrorBody(BaseModel):
    """What a client sees of an error: `param` names the field, `hint` the remedy."""

    model_config = ConfigDict(frozen=True)

    type: ErrorType
    code: str
    message: str
    param: str | None = None
    hint: str | None = None
    details: dict[str, Any] = {}
    request_id: str | None = None


class GraftError(Exception):
    """Base of every error that a user may see.

    Subclasses set `type` and `code`; the message says what is wrong, `hint` says what to do about it.
    """

    type: ClassVar[ErrorType] = "internal"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        hint: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.hint = hint
        self.details = details or {}

    def body(self, request_id: str | None = None) -> ErrorBody:
        """The error as the client sees it."""
        return ErrorBody(
            type=type(self).type,
            code=self.code,
            message=self.message,
            param=self.param,
            hint=self.hint,
            details=self.details,
            request_id=request_id,
        )


class InvalidRequestError(GraftError):
    """A field is wrong; `param` names it."""

    type = "invalid_request"
    code = "invalid_request"


class UnauthenticatedError(GraftError):
    """No access key, or one that is unknown, expired or revoked: which of them is not told."""

    type = "unauthenticated"
    code = "invalid_key"


class ForbiddenError(GraftError):
    """The caller is known, but may not do this."""

    type = "forbidden"
    code = "forbidden"


class RateLimitedError(GraftError):
    """Too many requests, or too many jobs at once: it passes. `retry_after` is in seconds."""

    type = "rate_limited"
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: float = 1.0, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.retry_after = retry_after


class NotFoundError(GraftError):
    """No such thing, or not the caller's: the two must not be told apart."""

    type = "not_found"
    code = "not_found"


class ConflictError(GraftError):
    """The request is well-formed but the thing is in the wrong state."""

    type = "conflict"
    code = "conflict"


class TooLargeError(GraftError):
    """The body or its content is over a limit."""

    type = "too_large"
    code = "too_large"


class UnsupportedMediaTypeError(GraftError):
    """The Content-Type or file format is not one we read."""

    type = "unsupported_media_type"
    code = "unsupported_media_type"


class UnavailableError(GraftError):
    """Something needed is down for now; try again."""

    type = "unavailable"
    code = "unavailable"


class InsufficientStorageError(GraftError):
    """The disk is full."""

    type = "insufficient_storage"
    code = "disk_full"


class JobError(GraftError):
    """A job (or the check of a data set) cannot go on. `code` says why, `hint` what to change."""

    type = "job_failed"
    code = "job_failed"
