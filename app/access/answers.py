"""The reply on its way out: where the caller stands with its rate limit, and what is written down before it starts."""

import math
import time
from dataclasses import dataclass

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope, Send

from app.access import auditing
from app.access.gate import KEPT_SECONDS, Gate
from app.access.windows import Standing
from core.contract.access import Caller
from core.store.store import Store


@dataclass(frozen=True)
class Visit:
    """A caller that was let in: with which secret, and what is left of its rate."""

    caller: Caller
    secret: str | None = None
    standing: Standing | None = None


def rate_headers(standing: Standing) -> dict[str, str]:
    """`RateLimit-*`: requests per minute, how many are left, seconds until there is room for one more."""
    return {
        "RateLimit-Limit": str(standing.limit),
        "RateLimit-Remaining": str(standing.remaining),
        "RateLimit-Reset": str(max(0, math.ceil(standing.reset))),
    }


class Answer:
    """The reply to one request of a caller."""

    def __init__(self, gate: Gate, visit: Visit, scope: Scope, send: Send) -> None:
        self._gate = gate
        self._visit = visit
        self._scope = scope
        self._send = send
        self._started = self._endless = False
        self._looked_at = time.monotonic()

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one only once it is written down what was done."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            await self.write_down(message["status"], headers.get("location"))
            self._started = True
            self._endless = headers.get("content-type", "").startswith("text/event-stream")
            for name, value in rate_headers(self._visit.standing).items() if self._visit.standing else ():
                headers[name] = value
        elif self._endless and self._visit.secret is not None:
            await self._look_again(self._visit.secret)
        await self._send(message)

    async def write_down(self, status: int, location: str | None) -> None:
        """Enter what was done into the audit log, unless the reply has started and it stands there already."""
        action = None if self._started else auditing.action(self._scope)
        if action is not None:
            entry = auditing.entry(self._scope, action, status, location)
            store: Store = self._scope["app"].state.store
            await to_thread.run_sync(auditing.write, store, self._visit.caller.tenant, entry)

    async def _look_again(self, secret: str) -> None:
        """A stream of events can go on for days: it ends soon after its key does."""
        if time.monotonic() - self._looked_at < KEPT_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            key = await self._gate.find(secret)
        except SQLAlchemyError:
            return  # it was let in, and the books are closed: look again later
        if key is None:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            raise ClientDisconnect
