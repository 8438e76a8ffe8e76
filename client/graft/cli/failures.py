"""Errors as one friendly block on stderr, and the exit code for each."""

import json
import sys

from graft.cli.output import clean, note
from graft.cli.show import faults
from graft.errors import (
    APIConnectionError,
    APIError,
    DatasetRejectedError,
    GraftError,
    ImportRejectedError,
    JobFailedError,
)

API, USAGE, JOB_FAILED, REJECTED, UNREACHABLE = 1, 2, 3, 4, 5


def exit_code(error: Exception) -> int:
    """0 ok, 1 error of the service, 2 usage, 3 job failed, 4 data set or model rejected, 5 cannot connect."""
    if isinstance(error, JobFailedError):
        return JOB_FAILED
    if isinstance(error, DatasetRejectedError | ImportRejectedError):
        return REJECTED
    if isinstance(error, APIConnectionError):
        return UNREACHABLE
    return API if isinstance(error, GraftError) else USAGE


def tell(error: Exception, *, as_json: bool) -> None:
    """Print the error on stderr."""
    if as_json:
        sys.stderr.write(json.dumps({"error": _body(error)}, ensure_ascii=False) + "\n")
        return
    if isinstance(error, DatasetRejectedError) and error.faults:
        note(f"Data set {error.dataset.id} ({error.dataset.name}) was rejected:", "bold red")
        faults(error.faults, on_stderr=True)
        return
    message = error.message if isinstance(error, GraftError) else _local(error)
    note(f"Error: {message}", "bold red")
    body = _body(error)
    for label, name in (("field", "param"), ("hint", "hint"), ("code", "code"), ("request id", "request_id")):
        if value := body.get(name):
            note(f"  {label + ':':<12}{clean(str(value))}")


def _body(error: Exception) -> dict[str, object]:
    if isinstance(error, APIError):
        return error.body.model_dump(mode="json")
    if isinstance(error, JobFailedError) and error.job.error is not None:
        return error.job.error.model_dump(mode="json") | {"job_id": error.job.id}
    if isinstance(error, ImportRejectedError) and error.entry.error is not None:
        return error.entry.error.model_dump(mode="json") | {"import_id": error.entry.id}
    if isinstance(error, DatasetRejectedError):
        found = [fault.model_dump(mode="json") for fault in error.faults]
        reason = error.dataset.error.model_dump(mode="json") if error.dataset.error else {}
        return (
            {"type": "dataset_rejected", "message": error.message}
            | reason
            | {
                "dataset_id": error.dataset.id,
                "faults": found,
            }
        )
    if isinstance(error, GraftError):
        return {"type": "client", "message": error.message, "hint": error.hint}
    return {"type": "client", "message": _local(error)}


def _local(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
