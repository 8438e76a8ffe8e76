"""Who a request comes from, by the books. What cannot be looked up is never let in."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from core.loopback import listens_on_loopback
from core.settings import Settings
from core.store import keys
from core.store.keys import KnownKey
from core.store.store import Store

KEPT_SECONDS = 5.0
KEPT_KEYS = 10_000
REMEDY = "graftd keys create --name admin --scope admin"
_THREADS = 8  # of our own: requests that keep all other threads busy must not keep the door shut

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Gate:
    """Looks keys up, keeps what it found for a few seconds, and notes in the background that they were used."""

    def __init__(self, store: Callable[[], Store], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._closed = False
        self._found: OrderedDict[str, tuple[float, KnownKey]] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()
        self._threads: CapacityLimiter | None = None
        self._writer: ThreadPoolExecutor | None = None

    async def is_open(self) -> bool:
        """Whether no key was ever made. Once one was, the database is not asked again."""
        if not self._closed:
            self._closed = await self._run(self._any_ever)
        return not self._closed

    async def warn_if_exposed(self, settings: Settings) -> None:
        """Say at the start that nobody will be let in, where the service listens beyond loopback and has no key."""
        if listens_on_loopback(settings.host):
            return
        with contextlib.suppress(SQLAlchemyError):  # /readyz tells of a database that is away
            if await self.is_open():
                log.warning("no_access_key", host=settings.host, remedy=REMEDY)

    async def find(self, secret: str) -> KnownKey | None:
        """The key with that secret, as it stood at most `KEPT_SECONDS` ago; None if it lets nobody in."""
        sha256 = keys.hashed(secret)
        kept = self._kept(sha256)
        if kept is not None:
            return kept
        asked_at = self._clock()
        key = await self._run(lambda: self._look_up(sha256))
        if key is not None:
            self._keep(sha256, asked_at, key)
        return key

    def forget(self, key_id: str) -> None:
        """Look the key up anew next time, because it was just changed."""
        with self._lock:
            for sha256 in [sha256 for sha256, (_, key) in self._found.items() if key.id == key_id]:
                del self._found[sha256]

    def note_use(self, key_id: str) -> None:
        """Have it written down, once a minute at most, that the key was used; neither waits nor fails."""
        at = self._clock()
        with self._lock:
            if key_id in self._used and at - self._used[key_id] < keys.USED_SECONDS:
                return
            self._used[key_id] = at
            _bound(self._used, key_id)
            self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="key-use")
            with contextlib.suppress(RuntimeError):  # the process is about to end
                self._writer.submit(self._write_use, key_id)

    def close(self) -> None:
        """Wait for what is being written."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=True, cancel_futures=True)

    async def _run(self, look: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = CapacityLimiter(_THREADS)
        return await to_thread.run_sync(look, limiter=self._threads)

    def _kept(self, sha256: str) -> KnownKey | None:
        with self._lock:
            at, key = self._found.get(sha256, (0.0, None))
            if key is None or self._clock() - at >= KEPT_SECONDS or keys.has_ended(key):
                self._found.pop(sha256, None)
                return None
            return key

    def _keep(self, sha256: str, at: float, key: KnownKey) -> None:
        with self._lock:
            self._found[sha256] = (at, key)
            _bound(self._found, sha256)

    def _any_ever(self) -> bool:
        with self._store().db.read() as tx:
            return keys.any_ever(tx)

    def _look_up(self, sha256: str) -> KnownKey | None:
        with self._store().db.read() as tx:
            return keys.find(tx, sha256)

    def _write_use(self, key_id: str) -> None:
        try:
            with self._store().db.write() as tx:
                keys.note_use(tx, key_id)
        except Exception as error:  # whatever it is, the request does not depend on it
            log.warning("key_use_not_noted", key=key_id, error=type(error).__name__)


def _bound(entries: OrderedDict[str, T], newest: str) -> None:
    entries.move_to_end(newest)
    while len(entries) > KEPT_KEYS:
        entries.popitem(last=False)
