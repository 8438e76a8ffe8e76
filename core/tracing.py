"""Traces by OpenTelemetry, sent to an OTLP/HTTP collector; without one, or without the package, nothing at all.

`opentelemetry` is imported by `start` and only where it is needed, so that whoever has no collector neither waits for
the import nor pays for a span. Spans go out in the background: a collector that is slow or dead delays nobody, and
what it does not take is dropped. Of an exception only the type is told: its text may hold parameters of a query.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from core import logs
from core.masking import mask
from core.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as OtelSpan

Kind = Literal["internal", "server", "client", "producer", "consumer"]

QUEUE = 2048
BATCH = 512
DELAY_SECONDS = 1.0
EXPORT_SECONDS = 1.0
STOP_SECONDS = 0.9
COMPLAIN_SECONDS = 60.0
LONGEST_VALUE = 1024

log = logs.get_logger(__name__)


class Span:
    """A stretch of work. This one is nobody's: it takes everything and keeps nothing."""

    __slots__ = ()

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def set(self, **attributes: Any) -> None:
        """Add attributes; None leaves one out."""

    def rename(self, name: str) -> None:
        """Give it another name, once that is known."""

    def fail(self, kind: str) -> None:
        """Mark it as failed; `kind` is a type or a code, never a text that may hold what a user sent."""


_NOTHING = Span()
_active: "list[_Tracing]" = []


def start(program: str, settings: Settings) -> None:
    """Send this process's spans to the collector that the settings or OTEL_EXPORTER_OTLP_ENDPOINT name, if one is.

    Call it after whatever forks. A missing package or an unusable address is said once and costs the traces only.
    """
    endpoint = (settings.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "").strip()
    if not endpoint or _active:
        return
    if not endpoint.lower().startswith(("http://", "https://")):
        hint = "Set GRAFT_OTLP_ENDPOINT to a URL like http://collector:4318."
        log.warning("no traces: the collector's address is no http URL", endpoint=endpoint, hint=hint)
        return
    try:
        _active.append(_Tracing(program, _traces_url(endpoint)))
    except ImportError as error:
        log.warning("no traces: OpenTelemetry is missing", reason=str(error), hint="pip install 'graft-server[otel]'")
    except Exception as error:  # e.g. an OTEL_ variable that makes no sense
        log.warning("no traces: OpenTelemetry does not start", reason=f"{type(error).__name__}: {error}")


def stop() -> None:
    """Send what is left, for a second at most; does nothing without `start`."""
    while _active:
        _active.pop().close()


def span(
    name: str, *, kind: Kind = "internal", traceparent: str | None = None, **attributes: Any
) -> AbstractContextManager[Span]:
    """A span around the block; an exception that leaves the block marks it as failed.

    Its parent is the one that `traceparent` names (W3C; an invalid one counts as none), without it the span around it.
    """
    return _active[0].span(name, kind, traceparent, attributes) if _active else _NOTHING


def record(name: str, begun: float, ended: float, *, traceparent: str | None = None, **attributes: Any) -> None:
    """A span known afterwards, from `begun` to `ended` (seconds since 1970); its parent is found as for `span`."""
    if _active:
        _active[0].record(name, begun, ended, traceparent, attributes)


def current() -> Span:
    """The span around this place."""
    return _active[0].current() if _active else _NOTHING


def current_traceparent() -> str | None:
    """The span around this place as a W3C `traceparent`, to be its children's parent elsewhere; None without one."""
    return _active[0].traceparent() if _active else None


class _Live(Span):
    """A span that is sent."""

    __slots__ = ("_span",)

    def __init__(self, span: "OtelSpan") -> None:
        self._span = span

    def set(self, **attributes: Any) -> None:
        self._span.set_attributes(_clean(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, kind)
        self._span.set_attribute("error.type", kind)


class _Tracing:
    """OpenTelemetry as this process uses it; no global of the package is set."""

    def __init__(self, program: str, url: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _complain_seldom(url)
        resource = Resource.create({"service.name": program, "service.version": _version()})
        limits = SpanLimits(max_attribute_length=LONGEST_VALUE)
        self._provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS),
                max_queue_size=QUEUE,
                schedule_delay_millis=DELAY_SECONDS * 1000,
                max_export_batch_size=BATCH,
                export_timeout_millis=EXPORT_SECONDS * 1000,
            )
        )
        self._trace = trace
        self._tracer = self._provider.get_tracer("graft", _version())

    @contextmanager
    def span(self, name: str, kind: Kind, traceparent: str | None, attributes: dict[str, Any]) -> Iterator[Span]:
        begun = self._tracer.start_span(
            name,
            _context(traceparent),
            kind=self._trace.SpanKind[kind.upper()],
            attributes=_clean(attributes),
        )
        made = _Live(begun)
        with self._trace.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield made
            except Exception as error:
                made.fail(type(error).__name__)
                raise

    def record(
        self, name: str, begun: float, ended: float, traceparent: str | None, attributes: dict[str, Any]
    ) -> None:
        made = self._tracer.start_span(
            name, _context(traceparent), attributes=_clean(attributes), start_time=int(begun * 1e9)
        )
        made.end(int(max(begun, ended) * 1e9))

    def current(self) -> Span:
        return _Live(self._trace.get_current_span())

    def traceparent(self) -> str | None:
        found = self._trace.get_current_span().get_span_context()
        if not found.is_valid:
            return None
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"

    def close(self) -> None:
        # The package waits for half a minute where a collector does not answer.
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(STOP_SECONDS)


class _Seldom(logging.Handler):
    """Says in our log that traces are not delivered, once in a while: the package says so for every batch."""

    def __init__(self, url: str) -> None:
        super().__init__(logging.WARNING)
        self._url = url
        self._again_at = 0.0

    def emit(self, line: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._again_at:
            self._again_at = now + COMPLAIN_SECONDS
            log.warning("traces are not delivered", endpoint=self._url, reason=line.getMessage()[:300])


def _complain_seldom(url: str) -> None:
    package = logging.getLogger("opentelemetry")
    package.handlers, package.propagate = [_Seldom(url)], False


def _context(traceparent: str | None) -> "Context | None":
    if traceparent is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _clean(attributes: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in attributes.items() if value is not None}
    return {name: mask(value) if isinstance(value, str) else value for name, value in found.items()}


def _traces_url(endpoint: str) -> str:
    base = endpoint.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


def _version() -> str:
    try:
        return version("graft-server")
    except PackageNotFoundError:
        return "0+unknown"
