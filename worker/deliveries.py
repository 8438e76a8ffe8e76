"""Sends webhooks: signed (https://www.standardwebhooks.com), a few at a time, again and again until they are taken."""

import base64
import hashlib
import hmac
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property

from core import logs, outbound, secret
from core.contract.base import now
from core.contract.errors import NotFoundError
from core.contract.jobs import Job
from core.outbound import NotAllowedError, Resolve
from core.settings import Settings
from core.store import jobs, webhooks
from core.store.store import Store
from core.store.webhooks import Due, Outcome
from worker.posting import SendError, post

log = logs.get_logger(__name__)

PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 3 * 3600.0, 12 * 3600.0)
"""Seconds between attempts; each is made up to a fifth shorter or longer, so that what failed together spreads."""
EXCHANGE_SECONDS = 10.0
LEASE_SECONDS = 60.0  # an exchange, and a resolver that takes its time
AT_ONCE = 8
AT_ONCE_PER_TENANT = 6
AT_ONCE_PER_URL = 2
GONE = 410


class Deliverer:
    """Sends what is due. Any number of workers may: each delivery is claimed before it is sent."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        stopping: Callable[[], bool] = lambda: False,
        *,
        resolver: Resolve = outbound.resolve_host,
        seconds: float = EXCHANGE_SECONDS,
    ) -> None:
        self._store = store
        self._settings = settings
        self._stopping = stopping
        self._resolver = resolver
        self._seconds = seconds
        self._networks = settings.webhook_networks
        self._changed = threading.Condition()
        self._under_way: dict[str, Due] = {}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def run_due(self) -> int:
        """Send everything that is due, and return how many attempts were made once none is under way.

        A slow receiver holds up this call, but not the deliveries to others. When told to stop, it returns at once;
        what is under way then is sent again by another worker after its lease, with the same id.
        """
        begun = 0
        while not self._stopping():
            due = self._claim()
            if due is not None:
                begun += 1
                self._under_way[due.id] = due
                threading.Thread(target=self._send, args=(due,), name=due.id, daemon=True).start()
                continue
            with self._changed:
                if not self._under_way:
                    break
                self._changed.wait(0.2)
        return begun

    def _claim(self) -> Due | None:
        with self._changed:
            busy = list(self._under_way.values())
        if len(busy) >= AT_ONCE:
            return None
        with self._store.db.read() as tx:
            if not webhooks.any_due(tx):
                return None
        urls, tenants = Counter(due.url for due in busy), Counter(due.tenant for due in busy)
        with self._store.db.write() as tx:
            return webhooks.claim(
                tx,
                LEASE_SECONDS,
                busy_urls=[url for url, count in urls.items() if count >= AT_ONCE_PER_URL],
                busy_tenants=[tenant for tenant, count in tenants.items() if count >= AT_ONCE_PER_TENANT],
            )

    def _send(self, due: Due) -> None:
        try:
            outcome = self._attempt(due)
            if outcome is not None:
                with self._store.db.write() as tx:
                    webhooks.finish(tx, due, outcome)
                self._say(due, outcome)
        except Exception as error:  # the database is away, or a fault of ours: after its lease it is sent again
            log.warning("webhook attempt not finished", delivery=due.id, error=type(error).__name__)
        finally:
            with self._changed:
                del self._under_way[due.id]
                self._changed.notify()

    def _attempt(self, due: Due) -> Outcome | None:
        try:
            with self._store.db.read() as tx:
                job = jobs.get(tx, due.tenant, due.job_id)
        except NotFoundError:
            return None  # deleted meanwhile, and the delivery with it
        try:
            status = self._exchange(due, body(due, job))
        except (NotAllowedError, SendError) as error:
            return Outcome(False, error=f"Not sent: {error}.", again_in=pause(due.attempt))
        if 200 <= status < 300:
            return Outcome(True, status)
        again = None if status == GONE else pause(due.attempt)
        return Outcome(False, status, f"The receiver answered {status} instead of 2xx.", again)

    def _exchange(self, due: Due, content: bytes) -> int:
        deadline = time.monotonic() + self._seconds
        target = outbound.parse(due.url)
        try:
            addresses = outbound.resolve(target, self._networks, self._resolver)
        except (OSError, UnicodeError) as error:
            raise SendError("its host is not known to the resolver") from error
        headers = self._headers(due, content)
        return post(target, addresses, content, headers, tls=self._tls, deadline=deadline)

    def _headers(self, due: Due, content: bytes) -> dict[str, str]:
        """What a receiver checks. Beside the tenant's key its one before signs too: a rotation breaks nobody."""
        key, stamp = secret.master(self._settings), str(int(time.time()))
        generations = range(due.generation, max(due.generation - 2, -1), -1)
        keys = [secret.webhook_key(key, due.tenant, generation) for generation in generations]
        return {
            "Content-Type": "application/json",
            "User-Agent": "Graft-Webhooks/1",
            "webhook-id": due.id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(sign(one, due.id, stamp, content) for one in keys),
        }

    def _say(self, due: Due, outcome: Outcome) -> None:
        log.info(
            "webhook delivered" if outcome.delivered else "webhook not delivered",
            delivery=due.id,
            job=due.job_id,
            attempt=due.attempt,
            status=outcome.status,
            error=outcome.error,
            again_in_seconds=outcome.again_in and round(outcome.again_in, 1),
        )


def body(due: Due, job: Job) -> bytes:
    """What is sent: the same bytes at every attempt, since a finished job does not change."""
    said = {
        "type": due.event,
        "timestamp": (job.finished_at or now()).isoformat(),
        "data": job.model_dump(mode="json"),
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def sign(key: bytes, message_id: str, stamp: str, content: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over id, time and body."""
    digest = hmac.digest(key, b".".join((message_id.encode(), stamp.encode(), content)), hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def pause(attempt: int) -> float | None:
    """Seconds until the next attempt after `attempt` (from 1) has failed; None after the last."""
    if attempt > len(PAUSES):
        return None
    return PAUSES[attempt - 1] * random.uniform(0.8, 1.2)
