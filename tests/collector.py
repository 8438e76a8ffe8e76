"""Collectors of traces: one that takes them over OTLP/HTTP and decodes them, and ones that are of no use."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begun: int
    ended: int
    failed: bool
    said: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What a collector was sent so far."""

    url: str
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    encodings: set[str] = field(default_factory=set)

    def wait(self, condition: Callable[[list[Seen]], object], seconds: float = 30) -> list[Seen]:
        """The spans, once they fulfil the condition."""
        deadline = time.monotonic() + seconds
        while not condition(self.spans):
            assert time.monotonic() < deadline, [(span.service, span.name) for span in self.spans]
            time.sleep(0.02)
        return list(self.spans)

    def wait_for(self, name: str, seconds: float = 30) -> Seen:
        """The first span of that name."""
        found = self.wait(lambda spans: any(span.name == name for span in spans), seconds)
        return next(span for span in found if span.name == name)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that takes everything."""
    found = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            encoding = self.headers.get("Content-Encoding", "identity")
            body = gzip.decompress(body) if encoding == "gzip" else body
            right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if right:
                found.encodings.add(encoding)
                found.bodies.append(body)
                found.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            self.send_response(200 if right else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """Address of a collector that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, but it does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def _spans(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for group in request.resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Seen(
                    service=resource["service.name"],
                    name=span.name,
                    kind=KINDS[span.kind],
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    begun=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    failed=span.status.code == 2,
                    said=span.status.message,
                    attributes=_values(span.attributes),
                    resource=resource,
                )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
