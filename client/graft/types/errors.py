"""The error object, the same in replies, in `job.error` and in `dataset.error`."""

from typing import Any

from graft.types.base import Resource


class ErrorBody(Resource):
    """`code` is stable, `param` names the field, `hint` says what to do."""

    type: str = "internal"
    code: str
    message: str
    param: str | None = None
    hint: str | None = None
    details: dict[str, Any] = {}
    request_id: str | None = None
