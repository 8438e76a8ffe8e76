"""Lists, newest first, with a cursor that is simply the last id (ids sort by time)."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Row, Select, Table

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
        query = query.where(table.c.id < cursor)
    rows = list(tx.execute(query.order_by(table.c.id.desc()).limit(limit + 1)))
    return rows[:limit], len(rows) > limit
