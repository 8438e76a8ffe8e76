"""Lists, newest first, with a cursor that is simply the last id (ids sort by time)."""

import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Row, Select, Table

from core.contract.errors import InvalidRequestError

_IDS = {
    "datasets": "ds",
    "jobs": "job",
    "models": "mdl",
    "api_keys": "key",
    "audit": "aud",
    "uploads": "upl",
    "imports": "imp",
    "deliveries": "whd",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


def fetch(
    tx: Connection, query: Select[Any], table: Table, *, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], bool]:
    """Run `query` newest first, after `cursor`; return at most `limit` rows and whether there are more."""
    if cursor is not None:
        if not re.fullmatch(rf"{_IDS[table.name]}_[0-9a-z]{{26}}", cursor):
            raise foreign_cursor()
        query = query.where(table.c.id < cursor)
    rows = list(tx.execute(query.order_by(table.c.id.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def foreign_cursor() -> InvalidRequestError:
    """The error for a cursor that another list, or nobody, has given out."""
    return InvalidRequestError(
        "This cursor is not from this list.",
        code="invalid_cursor",
        param="cursor",
        hint="Send the `next_cursor` of the page before, or no cursor for the first page.",
    )
