"""Turns what ended a job into the error its owner sees: a code, a reason and what to do."""

import errno
import signal
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from core.contract.errors import ErrorBody, GraftError, InsufficientStorageError, JobError, UnavailableError
from worker.engine.out_of_memory import says_out_of_memory

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AWAY = (InterfaceError, OperationalError)
_SQLITE_AWAY = ("locked", "busy", "disk I/O error", "unable to open")

_PASSING = (
    "EIO",
    "ESTALE",
    "ETIMEDOUT",
    "EREMOTEIO",
    "ECONNRESET",
    "ECONNREFUSED",
    "ECONNABORTED",
    "ENOTCONN",
    "EPIPE",
    "ESHUTDOWN",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
)
TRANSIENT_ERRNOS = frozenset(getattr(errno, name) for name in _PASSING if hasattr(errno, name))
"""What a disk or a network says that may be back in a moment: another attempt can go well."""

TRANSIENT: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError, PoolTimeoutError, UnavailableError)
"""Exceptions that always pass; an `OSError` does by its number, one of the database unless its disk is full."""

_MEMORY_HINT = "Take a smaller batch_size, image size or base model, or a machine with more memory."


def of_exception(error: BaseException) -> ErrorBody:
    """The error as its owner sees it; an unexpected one tells its type only, the traceback stays in the log."""
    if isinstance(error, InsufficientStorageError):
        return disk_full()
    if isinstance(error, GraftError):
        return error.body()
    if _is_memory(error):
        return out_of_memory("The machine or its accelerator ran out of memory.")
    if _is_full(error):
        return disk_full()
    if is_transient(error):
        return _interrupted(error)
    return GraftError(
        f"An unexpected {type(error).__name__} ended the run.",
        hint="This is a fault of the service, not of your data: its log tells more under this id.",
        details={"exception": type(error).__name__},
    ).body()


def is_transient(error: BaseException) -> bool:
    """Whether the same job may well succeed when it is simply tried again.

    Everything else is not tried again: a job that is wrong, does not fit, ran out of time or meets a fault of ours ends
    the same way each time.
    """
    if isinstance(error, TRANSIENT):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (isinstance(error, _AWAY) and _is_away(error))
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS


def _is_away(error: DBAPIError) -> bool:
    """SQLite's class says little: a missing table is of the same one as a locked file."""
    return not isinstance(error.orig, sqlite3.Error) or any(word in str(error.orig) for word in _SQLITE_AWAY)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, DBAPIError):
        return isinstance(error.orig, sqlite3.OperationalError) and "full" in str(error.orig)
    return isinstance(error, OSError) and error.errno in _FULL


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def of_death(exit_code: int | None, peak_bytes: int, limit_bytes: int) -> ErrorBody:
    """The child ended without a word: by which signal or exit code, and was it near the memory limit."""
    details = {"exit_code": exit_code, "peak_bytes": peak_bytes}
    if exit_code == -signal.SIGKILL and peak_bytes > limit_bytes * 0.6:
        return out_of_memory("The system ended the run's process, which had most of the machine's memory.", details)
    how = f"exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        how = _signal_name(-exit_code)
    return JobError(
        f"The process of this run ended without a result ({how}).",
        code="worker_killed",
        hint="If the machine's log speaks of an out-of-memory kill, take a smaller batch_size or base model; "
        "otherwise the service's log tells more.",
        details=details,
    ).body()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def out_of_memory(message: str, details: dict[str, Any] | None = None) -> ErrorBody:
    """`out_of_memory`."""
    return JobError(message, code="out_of_memory", hint=_MEMORY_HINT, details=details).body()


def disk_full() -> ErrorBody:
    """`disk_full`."""
    return JobError(
        "The disk that holds the data folder is full.",
        code="disk_full",
        hint="Free space or delete data sets and models that are no longer needed, then try again.",
    ).body()


def _interrupted(error: BaseException) -> ErrorBody:
    return JobError(
        f"Storage, the network or the database failed while the job ran ({type(error).__name__}).",
        code="interrupted",
        hint="Nothing is wrong with the job: once the machine's disks and connections are well again, send it anew.",
        details={"exception": type(error).__name__},
    ).body()


def stalled(where: str, seconds: float) -> ErrorBody:
    """`stalled`."""
    return JobError(
        f"The run gave no sign of life for {seconds:.0f} s in the step {where!r} and was ended.",
        code="stalled",
        hint="Send it again; if it stalls at the same place, take a smaller base model, or raise GRAFT_STALL_SECONDS "
        "where one operation really takes that long.",
        details={"step": where, "silent_seconds": round(seconds, 1)},
    ).body()


def deadline(seconds: float) -> ErrorBody:
    """`deadline`."""
    return JobError(
        f"The job ran longer than its budget of {seconds:g} s.",
        code="deadline",
        param="budget.max_seconds",
        hint="Raise budget.max_seconds, or stop a job in time: stopping keeps the best so far.",
    ).body()
