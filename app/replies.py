"""The envelope of lists, and what the description of an endpoint says about its errors."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from core.contract.base import Record
from core.contract.errors import ErrorBody
from core.store.paging import Page

T = TypeVar("T")


class ListReply(Record, Generic[T]):
    """One page of a list, newest first."""

    data: list[T]
    has_more: bool = Field(description="Whether there is another page.")
    next_cursor: str | None = Field(default=None, description="Send it as `cursor` to get the next page.")

    @classmethod
    def of(cls, page: Page[T]) -> "ListReply[T]":
        """The reply for a page from the store."""
        return cls(data=page.data, has_more=page.has_more, next_cursor=page.next_cursor)

    @classmethod
    def whole(cls, data: Sequence[T]) -> "ListReply[T]":
        """The reply for a list that always fits on one page."""
        return cls(data=list(data), has_more=False)


class ErrorReply(BaseModel):
    """Body of every reply that is an error."""

    error: ErrorBody


_DESCRIPTIONS = {
    400: "The body cannot be parsed.",
    401: "The access key is missing or not valid.",
    403: "The key's scope does not cover this call.",
    404: "There is no such thing.",
    405: "The path does not take this method.",
    406: "No representation fits the `Accept` header.",
    408: "The body did not come; nothing was sent for too long.",
    409: "The thing is not in a state that allows this; `error.code` says which.",
    410: "The upload has expired or failed.",
    412: "The request speaks another version of tus.",
    413: "The body is too large.",
    415: "The Content-Type is not one that this endpoint reads.",
    429: "Too many requests, or too many jobs at once; try again after `Retry-After` seconds.",
    416: "The range lies outside the file.",
    422: "The request is wrong; `error.param` names the field and `error.hint` the remedy.",
    423: "Another request writes to the upload at the moment.",
    460: "The chunk does not have the checksum that was announced.",
    500: "Something broke on our side; the log has more under `error.request_id`.",
    503: "Something the service needs is down; try again after `Retry-After` seconds.",
    507: "The disk is full.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of an endpoint that may answer with these error statuses."""
    return {status: {"model": ErrorReply, "description": _DESCRIPTIONS[status]} for status in statuses}
