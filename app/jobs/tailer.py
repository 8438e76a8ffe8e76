"""One reader per process that follows the events of all jobs somebody is watching."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import structlog
from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from core.contract.jobs import TERMINAL, Event
from core.store import events
from core.store.events import Tail
from core.store.store import Store

POLL_SECONDS = 0.15
REST_SECONDS = 1.0  # after an error of the database
REMEMBERED = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wire:
    """An event as it goes over the wire; made once, whatever the number of watchers."""

    seq: int
    data: bytes


def to_wire(event: Event) -> Wire:
    """Encode an event for a stream."""
    return Wire(event.seq, format_sse_event(id=str(event.seq), event=event.kind, data_str=event.model_dump_json()))


@dataclass
class Feed:
    """What is known of one job. Watchers that keep up are served from `recent`; others read the database."""

    last_seq: int | None = None
    ended: bool = False
    recent: deque[Wire] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def covers(self, seq: int) -> bool:
        """Whether `recent` holds every event after `seq`."""
        return self.last_seq == seq or bool(self.recent and self.recent[0].seq <= seq + 1)

    def since(self, seq: int, limit: int) -> list[Wire]:
        """Remembered events after `seq`, at most `limit`."""
        return list(islice((event for event in self.recent if event.seq > seq), limit))

    def tell(self) -> None:
        """Wake every watcher; each waits on the event it saw last."""
        self.changed.set()
        self.changed = asyncio.Event()


class Tailer:
    """Asks the database a few times a second, in one query, how far the watched jobs have come."""

    def __init__(self, store: Store, poll_seconds: float = POLL_SECONDS) -> None:
        self.closing = False
        self._store = store
        self._poll_seconds = poll_seconds
        self._feeds: dict[str, Feed] = {}
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def watched(self) -> int:
        """How many streams are open."""
        return sum(feed.watchers for feed in self._feeds.values())

    @contextlib.contextmanager
    def follow(self, job_id: str) -> Iterator[Feed]:
        """Watch a job for as long as the block runs."""
        feed = self._feeds.setdefault(job_id, Feed())
        feed.watchers += 1
        self._nudge.set()
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                self._feeds.pop(job_id, None)

    def start(self) -> None:
        """Start in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tailer")

    def hang_up(self) -> None:
        """End every stream, so that the process can stop; watchers come back with `Last-Event-ID`."""
        self.closing = True
        for feed in list(self._feeds.values()):
            feed.tell()

    async def close(self) -> None:
        """Hang up and end the task."""
        self.hang_up()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            rest = self._poll_seconds
            if self._feeds:
                try:
                    await self._look()
                except SQLAlchemyError as error:
                    log.warning("events_unreadable", error=type(error).__name__)
                    rest = REST_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), rest if self._feeds else None)
            self._nudge.clear()

    async def _look(self) -> None:
        known = {job_id: feed.last_seq for job_id, feed in self._feeds.items()}
        for job_id, (tail, new) in (await asyncio.to_thread(self._read, known)).items():
            feed = self._feeds.get(job_id)
            if feed is None or feed.last_seq != known[job_id]:
                continue  # nobody watches any more, or somebody began anew meanwhile
            if tail is None:
                feed.ended = True  # the job is gone
            elif tail.last_seq == feed.last_seq:
                continue
            else:
                if not new:
                    feed.recent.clear()
                feed.recent.extend(new)
                feed.last_seq, feed.ended = tail.last_seq, tail.state in TERMINAL
            feed.tell()

    def _read(self, known: dict[str, int | None]) -> dict[str, tuple[Tail | None, list[Wire]]]:
        with self._store.db.read() as tx:
            tails = events.tails(tx, list(known))
            found: dict[str, tuple[Tail | None, list[Wire]]] = {}
            for job_id, seq in known.items():
                tail = tails.get(job_id)
                behind = 0 if tail is None or seq is None else tail.last_seq - seq
                # Far behind (or new here): watchers read the database; what is remembered must have no gap.
                new = events.after(tx, job_id, seq or 0, behind) if 0 < behind <= REMEMBERED else []
                found[job_id] = (tail, [to_wire(event) for event in new])
        return found
