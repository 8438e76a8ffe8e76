"""When to try again, and how long to wait before that."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_STATUSES = frozenset({429, 502, 503, 504})
_FIRST, _LONGEST = 0.5, 8.0
_PATIENCE = 60.0  # a Retry-After above this is told to the caller, not sat out


@dataclass(frozen=True)
class Retries:
    """At most `limit` repetitions, with exponential back-off and jitter; `sleep` takes seconds."""

    limit: int = 3
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, asked: float | None = None) -> None:
        """Wait before repetition `attempt` (from 0): as long as the service `asked`, else the back-off."""
        self.sleep(backoff(attempt) if asked is None else asked)

    def allows(self, attempt: int, asked: float | None = None) -> bool:
        """Whether repetition `attempt` (from 0) is still allowed."""
        return attempt < self.limit and (asked is None or asked <= _PATIENCE)


def backoff(attempt: int) -> float:
    """Seconds before repetition `attempt` (from 0): between half and the whole of 0.5, 1, 2, … 8 s."""
    return min(_LONGEST, _FIRST * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)


def is_passing(status: int, code: str) -> bool:
    """Whether an error reply may be gone at the next try."""
    return status in _STATUSES or (status == 409 and code == "idempotency_in_progress")


def retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date); None without a usable one."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
