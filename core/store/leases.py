"""Claiming rows: a conditional update with a lease; the attempt number fences off late writes of a lost worker."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, case, select, update

from core.store.database import clock


@dataclass(frozen=True)
class Fence:
    """What a worker holds of a row: a write with another attempt number is refused."""

    id: str
    attempt: int


class LostLeaseError(Exception):
    """Somebody else owns the row now; stop at once and write nothing more."""


def claim(
    tx: Connection, table: Table, free: ColumnElement[bool], *, state: str, owner: str, seconds: float
) -> Row[Any] | None:
    """Claim the oldest row that is `free`, setting its `state`; None if there is none.

    Safe against other claimers: on SQLite writers take turns, on PostgreSQL locked rows are skipped. A row taken over
    from a worker whose lease has run out counts one loss more.
    """
    oldest = select(table.c.id).where(free).order_by(table.c.id).limit(1).with_for_update(skip_locked=True)
    return tx.execute(
        update(table)
        .where(table.c.id == oldest.scalar_subquery())
        .values(
            state=state,
            attempt=table.c.attempt + 1,
            lost=table.c.lost + case((table.c.lease_until < clock(tx), 1), else_=0),
            owner=owner,
            lease_until=clock(tx) + seconds,
        )
        .returning(table)
    ).one_or_none()


def renew(tx: Connection, table: Table, fence: Fence, *, state: str, seconds: float) -> Row[Any]:
    """Prolong the lease and return the row as it stands; `LostLeaseError` if it is somebody else's by now."""
    row = tx.execute(
        update(table)
        .where(table.c.id == fence.id, table.c.attempt == fence.attempt, table.c.state == state)
        .values(lease_until=clock(tx) + seconds)
        .returning(table)
    ).one_or_none()
    if row is None:
        raise LostLeaseError(f"{fence.id}: attempt {fence.attempt} no longer owns the row")
    return row


def release(tx: Connection, table: Table, fence: Fence, *, state: str, lost: bool) -> None:
    """Hand a row back so that another worker takes it at once; `lost` says whether that counts as a loss."""
    tx.execute(
        update(table)
        .where(table.c.id == fence.id, table.c.attempt == fence.attempt, table.c.state == state)
        .values(lease_until=None, owner=None, lost=table.c.lost + int(lost))
    )
