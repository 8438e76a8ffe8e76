"""Threads that read and decode ahead of the device; one that is stuck in a read must not hold up the rest."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from core.contract.errors import JobError

T = TypeVar("T")
S = TypeVar("S")

STALLED_SECONDS = 300.0
_LISTEN = 0.5  # seconds between two looks at what the user wants, while a batch is awaited
_GRACE = 2.0  # seconds that threads get to end by themselves


@contextmanager
def workers(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. After an error nobody waits for those that still work."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[S], T],
    parts: Iterable[S],
    *,
    ahead: int,
    check: Callable[[], None] = lambda: None,
    limit: float | None = None,
) -> Iterator[T]:
    """Results in the order of `parts`, at most `ahead` begun before they are wanted; an error or an early end drops
    the rest.

    While a result is awaited, `check` is called now and then, and may raise. Raises `JobError` `data_stalled` after
    `limit` seconds without one (`STALLED_SECONDS` if it is not given).
    """
    waiting: deque[Future[T]] = deque()
    patience = STALLED_SECONDS if limit is None else limit
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > ahead:
                yield _result(waiting, check, patience)
        while waiting:
            yield _result(waiting, check, patience)
    finally:
        wait([future for future in waiting if not future.cancel()], timeout=_GRACE)


def _result(waiting: deque[Future[T]], check: Callable[[], None], limit: float) -> T:
    first = waiting[0]
    begun = time.monotonic()
    while not wait([first], timeout=min(_LISTEN, limit)).done:
        check()
        if time.monotonic() - begun >= limit:
            raise _stalled(limit)
    return waiting.popleft().result()


def _stalled(limit: float) -> JobError:
    return JobError(
        f"The items of a batch could not be read for {limit:.3g} s.",
        code="data_stalled",
        hint="The storage of the data folder does not answer: look at its disk or network mount, then run the job "
        "again.",
    )
