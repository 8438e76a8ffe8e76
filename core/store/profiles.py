"""Queries on profiles: the newest figures of what runs took, by device, network, kind, variant and data."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from core.contract.base import now
from core.estimating.rates import KEPT, Observation, Profile, Source
from core.store.tables import profiles

T = profiles.c
KEPT_DAYS = 180
_ALL = ""  # of any network


def _record(row: Row[Any]) -> Profile:
    return Profile(
        device=row.device,
        network=row.network,
        kind=row.kind,
        variant=row.variant,
        data=row.data,
        values=tuple(row._mapping["values"]),  # `values` is a method of rows
        source=row.source,
        updated=row.updated_at,
        facts=row.facts,
    )


def add(tx: Connection, device: str, seen: Iterable[Observation], source: Source) -> None:
    """Add figures to those that are known; where there are too many, the oldest go.

    What a job took outweighs what a short measurement said: it takes its place, and is not overwritten by one.
    """
    for one in sorted(seen, key=lambda one: (one.network, one.kind, one.variant, one.data)):
        _add(tx, device, one, source)


def _add(tx: Connection, device: str, one: Observation, source: Source) -> None:
    key = (
        T.device == device,
        T.network == one.network,
        T.kind == one.kind,
        T.variant == one.variant,
        T.data == one.data,
    )
    row = tx.execute(select(profiles).where(*key).with_for_update()).one_or_none()
    if row is not None:
        known = _record(row)
        if source == "measured" and known.source == "history" and one.facts is None:
            return
        values = [*(known.values if known.source == source else ()), one.value][-KEPT:]
        facts = known.facts if one.facts is None else one.facts
        tx.execute(update(profiles).where(*key).values(values=values, facts=facts, source=source, updated_at=now()))
        return
    row_values = {"device": device, "network": one.network, "kind": one.kind, "variant": one.variant, "data": one.data}
    more = {"values": [one.value], "facts": one.facts or {}, "source": source, "updated_at": now()}
    tx.execute(insert(profiles).values(**row_values, **more))


def of(tx: Connection, device: str, networks: Sequence[str]) -> list[Profile]:
    """What is known of these networks on a device, and what holds for all networks there."""
    query = select(profiles).where(T.device == device, or_(T.network.in_(list(networks)), T.network == _ALL))
    return [_record(row) for row in tx.execute(query)]


def devices(tx: Connection) -> list[Profile]:
    """The devices that have run something, the newest first; their facts say what they are."""
    query = select(profiles).where(T.kind == "device").order_by(T.updated_at.desc())
    return [_record(row) for row in tx.execute(query)]


def forget(tx: Connection) -> int:
    """Remove what nobody has added to for half a year; returns how many rows."""
    return tx.execute(delete(profiles).where(T.updated_at < now() - timedelta(days=KEPT_DAYS))).rowcount
