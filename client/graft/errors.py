"""Errors of the SDK. Every one is a `GraftError`; replies of the service are an `APIError` with a stable `code`."""

from __future__ import annotations

import builtins
from typing import Any

from graft.types import Dataset, DatasetReport, ErrorBody, Fault, Import, Job


class GraftError(Exception):
    """Base of every error; `hint` says what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message} {hint}")
        self.message = message
        self.hint = hint


class APIConnectionError(GraftError, builtins.ConnectionError):
    """The service could not be reached, or the connection broke."""


class DownloadError(GraftError):
    """What arrived is not what the service announced."""


class WaitTimeoutError(GraftError, builtins.TimeoutError):
    """The thing waited for was not finished in time; it goes on all the same."""


class APIError(GraftError):
    """The service answered with an error."""

    def __init__(self, status: int, body: ErrorBody, *, retry_after: float | None = None) -> None:
        super().__init__(body.message, hint=body.hint)
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """Stable code, e.g. `dataset_not_found`."""
        return self.body.code

    @property
    def param(self) -> str | None:
        """The field that is wrong."""
        return self.body.param

    @property
    def details(self) -> dict[str, Any]:
        """More, depending on the code."""
        return self.body.details

    @property
    def request_id(self) -> str | None:
        """What to look for in the service's log."""
        return self.body.request_id


class InvalidRequestError(APIError):
    """400 or 422: a field is wrong; `param` names it."""


class AuthenticationError(APIError):
    """401: no access key (`missing_key`: set GRAFT_API_KEY), or a wrong, revoked or expired one (`invalid_key`)."""


class PermissionDeniedError(APIError):
    """403: the access key's scope does not cover this (`scope_too_small`), or it is a browser's from another site."""


class NotFoundError(APIError):
    """404: there is no such thing."""


class ConflictError(APIError):
    """409: the thing is not in a state for this."""


class TooLargeError(APIError):
    """413: over a limit of the service."""


class UnsupportedMediaTypeError(APIError):
    """415: not a format the service reads."""


class RateLimitError(APIError):
    """429: too many requests (`rate_limited`) or waiting jobs (`job_quota_exceeded`); `retry_after` is in seconds."""


class ServerError(APIError):
    """5xx: the service failed."""


class UnavailableError(ServerError):
    """503 (or 502, 504 from a proxy): down for now."""


class InsufficientStorageError(ServerError):
    """507: the service's disk is full."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
    422: InvalidRequestError,
    429: RateLimitError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
    507: InsufficientStorageError,
}


def error_class(status: int) -> type[APIError]:
    """The class of error for an HTTP status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)


class ImportRejectedError(GraftError):
    """The service refused uploaded weights; `entry.error` says why, with all names that do not fit in its details."""

    def __init__(self, entry: Import) -> None:
        reason = entry.error
        super().__init__(reason.message if reason else "The import was rejected.", hint=reason.hint if reason else None)
        self.entry = entry


class DatasetRejectedError(GraftError):
    """The service refused a data set; `report` (if there is one) lists every fault with its remedy."""

    def __init__(self, dataset: Dataset, report: DatasetReport | None) -> None:
        self.dataset = dataset
        self.report = report
        self.faults: list[Fault] = [f for f in report.faults if f.severity == "error"] if report else []
        reason = dataset.error.message if dataset.error else "It was rejected."
        lines = [f"Data set {dataset.id} ({dataset.name}) was rejected: {reason}"]
        lines += [f"- {fault.code} ({fault.count}): {fault.message} {fault.remedy}" for fault in self.faults]
        super().__init__("\n".join(lines), hint=None if self.faults or not dataset.error else dataset.error.hint)


class JobFailedError(GraftError):
    """The job ended without a model; `code` says why."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.code = job.error.code if job.error else job.state
        reason = f" ({self.code}): {job.error.message}" if job.error else "."
        super().__init__(f"Job {job.id} {_ended(job)}{reason}", hint=job.error.hint if job.error else None)


class JobCancelledError(JobFailedError):
    """The job was cancelled."""


def _ended(job: Job) -> str:
    return "was cancelled" if job.state == "cancelled" else job.state
