"""A job's events as a stream that can be resumed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.tailer import Feed, Tailer, Wire, to_wire
from core.contract.errors import NotFoundError
from core.store import events, jobs
from core.store.store import Store

KEEP_ALIVE_SECONDS = 15.0
AT_ONCE = 100  # bounds what a client that does not read can hold
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_HELLO = format_sse_event(comment="connected", retry=1000)
_KEEP_ALIVE = format_sse_event(comment="keep-alive")

log = structlog.get_logger(__name__)


async def stream(store: Store, tailer: Tailer, tenant: str, job_id: str, *, seq: int) -> AsyncIterator[bytes]:
    """Every event after `seq` once and in order, then, after a terminal state, `end` with the job."""
    yield _HELLO
    with tailer.follow(job_id) as feed:
        while not tailer.closing:
            changed = feed.changed  # taken before looking, so that no change goes unseen
            try:
                new = await _next(store, feed, job_id, seq)
                last = await _ending(store, tenant, job_id) if _over(feed, new, seq) else None
            except SQLAlchemyError as error:
                log.warning("stream_broken_off", job=job_id, error=type(error).__name__)
                return  # the client resumes where it was
            if last is not None:
                yield last
                return
            if new:
                seq = new[-1].seq
                yield b"".join(event.data for event in new)
            elif not await _wait(changed, KEEP_ALIVE_SECONDS):
                yield _KEEP_ALIVE


async def _next(store: Store, feed: Feed, job_id: str, seq: int) -> list[Wire]:
    if feed.last_seq is None or feed.last_seq <= seq:
        return []  # not looked yet, or nothing new
    if feed.covers(seq):
        return feed.since(seq, AT_ONCE)
    return await asyncio.to_thread(_read, store, job_id, seq)


def _read(store: Store, job_id: str, seq: int) -> list[Wire]:
    with store.db.read() as tx:
        return [to_wire(event) for event in events.after(tx, job_id, seq, AT_ONCE)]


def _over(feed: Feed, new: list[Wire], seq: int) -> bool:
    return feed.ended and not new and (feed.last_seq is None or feed.last_seq <= seq)


async def _ending(store: Store, tenant: str, job_id: str) -> bytes | None:
    def read() -> str:
        with store.db.read() as tx:
            return jobs.get(tx, tenant, job_id).model_dump_json()

    with contextlib.suppress(NotFoundError):
        return format_sse_event(event="end", data_str=await asyncio.to_thread(read))
    return format_sse_event(event="end", data_str="null")


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    """Whether something changed within the time."""
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        return False
    return True
