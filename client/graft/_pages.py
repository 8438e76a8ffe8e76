"""Lists that fetch their next page by themselves."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel

from graft._transport import Transport
from graft.types import Page

M = TypeVar("M", bound=BaseModel)
_PAGE = 100


def iterate(transport: Transport, kind: type[M], path: str, *, limit: int | None = None, **filters: Any) -> Iterator[M]:
    """Yield every item of a list in the service's order, at most `limit`; pages are fetched as they are needed."""
    return islice(_all(transport, kind, path, min(limit or _PAGE, _PAGE), filters), limit)


def _all(transport: Transport, kind: type[M], path: str, size: int, filters: dict[str, Any]) -> Iterator[M]:
    cursor = None
    while True:
        page = transport.get(Page[kind], path, **filters, cursor=cursor, limit=size)  # type: ignore[valid-type]
        yield from page.data
        cursor = page.next_cursor
        if not page.has_more or cursor is None:
            return
