"""The frame around every request: an id, log context, security headers, measurements, and the last catch."""

import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import internal
from app.health.metrics import Metrics
from core import logs, tracing
from core.contract.base import new_id

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_QUIET = ("/healthz", "/readyz", "/metrics")
_UNMATCHED = "unmatched"

log = structlog.get_logger()


class RequestFrame:
    """Pure ASGI, so that streams pass through it untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = _Call(scope, send)
        with logs.bind(request_id=call.id), call.traced():
            await self._answer(call, receive)

    async def _answer(self, call: "_Call", receive: Receive) -> None:
        scope = call.scope
        try:
            await self.app(scope, receive, call.send)
        except ClientDisconnect:
            call.status = 499  # nobody is left to answer
        except Exception as error:
            call.fault = type(error).__name__
            # The plain text: a pretty traceback is slow and shows the values of variables, which may be secret.
            log.error("unexpected_error", method=scope["method"], route=call.route, exception=traceback.format_exc())  # noqa: TRY400
            if not call.started:
                await internal(call.id)(scope, receive, call.send)
            else:
                raise
        finally:
            self._measure(call)

    def _measure(self, call: "_Call") -> None:
        seconds = time.perf_counter() - call.began
        self.metrics.observe(call.scope["method"], call.route, call.status, seconds)
        if call.route not in _QUIET:
            log.info(
                "request",
                method=call.scope["method"],
                route=call.route,
                status=call.status,
                ms=round(seconds * 1000, 1),
                **call.caller,
            )


class _Call:
    """One request under way."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.began = time.perf_counter()
        self.started = False
        self.status = 500
        self.fault: str | None = None
        self.id = _request_id(scope)
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.id

    @property
    def route(self) -> str:
        """The template of the path, so that measurements are not split by id."""
        route: Any = self.scope.get("route")
        return getattr(route, "path", None) or _UNMATCHED

    @property
    def caller(self) -> dict[str, str]:
        """The tenant, once the door has found out who calls."""
        caller = self.scope["state"].get("caller")
        return {} if caller is None else {"tenant": caller.tenant}

    @contextmanager
    def traced(self) -> Iterator[None]:
        """The request's span, until the last byte of the reply; what only looks at the service has none."""
        if self.scope["path"] in _QUIET:
            yield
            return
        method = self.scope["method"]
        ids = {"http.request.method": method, "graft.request_id": self.id}
        with tracing.span(method, kind="server", traceparent=_traceparent(self.scope), **ids) as span:
            try:
                yield
            finally:
                self._complete(span)

    def _complete(self, span: tracing.Span) -> None:
        span.set(**{"http.response.status_code": self.status})
        if self.route != _UNMATCHED:
            span.rename(f"{self.scope['method']} {self.route}")
            span.set(**{"http.route": self.route})
        if self.status >= 500:
            span.fail(self.fault or str(self.status))

    async def send(self, message: Message) -> None:
        """Pass a message on; a reply's start gets the headers that all replies carry."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("content-type", "").startswith("application/json"):
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The client's own id if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return str(value.decode())
    return new_id("req")


def _traceparent(scope: Scope) -> str | None:
    """The caller's span; more than one is none (an empty text is an invalid one)."""
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    if not found:
        return None
    return str(found[0].decode("latin-1")) if len(found) == 1 else ""
