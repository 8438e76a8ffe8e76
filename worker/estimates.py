"""What a job was expected to cost, what it did cost, and what the next ones learn from it."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from core import logs
from core.contract.estimates import Estimate, Figure
from core.contract.reports import Report
from core.estimating import Observation, Spent, missed, observe
from core.estimating.rates import Source
from core.forecasting import Forecast, forecast
from core.settings import Settings
from core.store import jobs, profiles
from core.store.store import Store
from worker.children import MEMORY_SHARE, Child, machine_memory

T = TypeVar("T")
log = logs.get_logger(__name__)


@dataclass
class Books:
    """The forecast of one attempt at a job; without one, as where the books could not be read, nothing is said."""

    settings: Settings
    found: Forecast | None
    first: bool
    """Whether this attempt does all of the job."""
    began: float
    done: Estimate | None = None
    """The estimate with its actual figures, once it is closed."""

    @classmethod
    def open(cls, store: Store, settings: Settings, claim: jobs.JobClaim) -> "Books":
        """Reckon, and write into the job what it will cost. An estimate that fails is no reason for a job to fail."""

        def reckon() -> Forecast:
            with store.db.read() as tx:
                found = forecast(tx, settings, claim.tenant, claim.spec, host=socket.gethostname())
            with store.db.write() as tx:
                jobs.set_estimate(tx, claim.fence, found.estimate)
            return found

        first = claim.fence.attempt == 1
        return cls(settings, _harmless(reckon), first, time.monotonic())

    def close(self, spent: Spent | None, child: Child | None) -> dict[str, Any]:
        """The job's column with what it came to."""
        if self.found is None:
            return {}
        usage = 0 if child is None else child.usage.peak_bytes
        held = (spent.peak if spent is not None else None) or usage
        disk = None if spent is None or not spent.disk_bytes else float(spent.disk_bytes + self._made(spent))
        seconds = round(time.monotonic() - self.began, 3)
        self.done = _actual(self.found.estimate, seconds, float(held) if held else None, disk)
        return {"estimate": self.done.model_dump(mode="json")}

    def learn(self, store: Store, spent: Spent) -> None:
        """What a job that has succeeded tells of the next ones; in a transaction of its own, for it must harm none."""
        found = self.found
        if found is None or not self.first:
            return
        seen = observe(found.work, spent)
        if self.done is not None and found.device.name == spent.device:
            seen += missed(self.done, found.rates, found.work)
        _harmless(lambda: write(store, spent, seen, "history"))

    def _made(self, spent: Spent) -> int:
        """Bytes of features and graphs that were not there before."""
        assert self.found is not None
        work, cache = self.found.work, self.settings.root / "cache"
        known = {part.sha256 for part in work.parts if part.cached} | ({"graph"} if work.graph_cached else set())
        files = (cache / path for name, path in spent.cached.items() if name not in known)
        return sum(path.stat().st_size for path in files if path.is_file())


def complete(spent: Spent, report: Report, *, began: float, stored: float, disk_bytes: int) -> Spent:
    """With what only the worker knows."""
    scratch = next((arm.seconds for arm in report.arms if arm.name == "from_scratch" and arm.state == "measured"), None)
    values = {
        "scratch_seconds": scratch,
        "store_seconds": stored,
        "disk_bytes": disk_bytes,
        "seconds": time.monotonic() - began,
    }
    return spent.model_copy(update=values)


def write(store: Store, spent: Spent, seen: list[Observation], source: Source) -> None:
    """Enter what was seen, and the device that it was seen on."""
    limit = spent.gpu_bytes or int(machine_memory() * MEMORY_SHARE)
    facts = {"host": socket.gethostname(), "kind": spent.kind, "threads": spent.threads, "memory_bytes": limit}
    with store.db.write() as tx:
        profiles.add(tx, spent.device, [*seen, Observation("device", 1.0, facts=facts)], source)


def _actual(found: Estimate, seconds: float, memory: float | None, disk: float | None) -> Estimate:
    def figure(one: Figure, value: float | None) -> Figure:
        return one.model_copy(update={"actual": value})

    return found.model_copy(
        update={
            "seconds": figure(found.seconds, seconds),
            "memory_bytes": figure(found.memory_bytes, memory),
            "disk_bytes": figure(found.disk_bytes, disk),
        }
    )


def _harmless(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except Exception:
        log.warning("no estimate", exc_info=True)
        return None
