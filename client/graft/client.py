"""The client: one object, one attribute per noun."""

import os
from types import TracebackType

from graft._retries import Retries
from graft._transport import Call, Transport
from graft.resources import BaseModels, Datasets, Jobs, Keys, Methods, Models
from graft.types import Health, Resource, Usage

DEFAULT_URL = "http://127.0.0.1:8000"


class Graft:
    """A client of one Graft service.

    `base_url` defaults to GRAFT_URL, else http://127.0.0.1:8000; `api_key` to GRAFT_API_KEY (sent as Bearer token).
    `timeout` in seconds holds for connecting and for every silence, not for a whole upload. Failed connections, 429 and
    502-504 are tried again up to `max_retries` times where that does no harm. `verify` is as in httpx2: a path to a CA
    bundle, or False to trust any certificate. Safe to share between threads.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        max_retries: int = 3,
        verify: bool | str = True,
    ) -> None:
        self.base_url = base_url or os.environ.get("GRAFT_URL") or DEFAULT_URL
        self.api_key = api_key or os.environ.get("GRAFT_API_KEY") or None
        self._transport = Transport(self.base_url, self.api_key, timeout, Retries(max_retries), verify)
        self.base_url = self._transport.base_url
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.models = Models(self._transport)
        self.keys = Keys(self._transport)
        self.methods = Methods(self._transport)
        self.base_models = BaseModels(self._transport)

    def health(self) -> Health:
        """Whether the service lives and can do work; `details` says what is missing."""
        self._transport.send(Call("GET", "/healthz"))
        reply = self._transport.probe("/readyz")
        if reply.status_code not in {200, 503}:
            raise self._transport.failure(reply)
        details = self._transport.parse(Resource, reply).model_dump()
        return Health(live=True, ready=reply.is_success, details=details)

    def usage(self) -> Usage:
        """What your tenant uses, beside its quotas."""
        return self._transport.get(Usage, "/usage")

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> "Graft":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
