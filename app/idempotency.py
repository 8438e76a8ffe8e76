"""`Idempotency-Key`: the thing and the kept reply are written in one transaction, so both exist or neither does."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from core.contract.base import Record
from core.store import idempotency
from core.store.store import Store


@dataclass(frozen=True)
class Created:
    """The body of a 201 (or 202) reply, and whether it was given before."""

    body: dict[str, Any]
    replayed: bool = False

    def reply(self, noun: str, status: int = 201) -> JSONResponse:
        """The reply; `Location` is where the new thing stands."""
        headers = {"Location": f"/{noun}/{self.body['id']}"}
        if self.replayed:
            headers["Idempotent-Replayed"] = "true"
        return JSONResponse(self.body, status, headers)


def once(
    tx: Connection,
    tenant: str,
    key: str | None,
    request: dict[str, Any],
    create: Callable[[], Record],
    *,
    seconds: float = idempotency.KEPT_SECONDS,
) -> Created:
    """Create the thing, or give the reply that this key got before, within the last `seconds`.

    `request` is everything that makes two requests the same. An error rolls back `tx`, and the key with it.
    """
    if key is None:
        return Created(create().model_dump(mode="json"))
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=True)
    replay = idempotency.begin(tx, tenant, key, hashlib.sha256(canonical.encode()).hexdigest(), seconds)
    if replay is not None:
        return Created(replay.body, replayed=True)
    body = create().model_dump(mode="json")
    idempotency.finish(tx, tenant, key, 201, body)
    return Created(body)


class _UnheardError(Exception):
    """There is no reply yet."""


def replayed(store: Store, tenant: str, key: str | None, request: dict[str, Any]) -> Created | None:
    """The reply that `once` would give again, for calls whose work is done before it is entered; None without one.

    Errors as those of `once`: a key that was used with another request, or whose first request is under way.
    """
    with store.db.read() as tx:
        if key is None or not idempotency.is_known(tx, tenant, key):
            return None
    try:
        with store.db.write() as tx:
            return once(tx, tenant, key, request, _unheard, seconds=store.key_seconds)
    except _UnheardError:  # the key had expired, and stays so: the transaction is rolled back
        return None


def _unheard() -> Record:
    raise _UnheardError
