"""One connection: uvicorn's HTTP protocol with limits on headers, on slowness, and on what can be read in two ways."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.server import refusals
from core.contract.errors import GraftError
from core.settings import Settings

LINGER_SECONDS = 2.0
LEFTOVER_SECONDS = 10.0
Timer = asyncio.TimerHandle | None


@dataclass(frozen=True)
class Limits:
    """What one connection, and all of them, may take."""

    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    idle_seconds: float = 60.0
    connections: int = 1000


class RefusedError(Exception):
    """Raised inside the parser to end it; `error` is what the client is told."""

    def __init__(self, error: GraftError) -> None:
        super().__init__(error.message)
        self.error = error


class WireProtocol(HttpToolsProtocol):
    """Answers what it refuses with the service's own error body, then hangs up."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._in_head = True  # or before it
        self._begun = False  # something of the head, or of what follows it, has come
        self._fresh = False  # that was in the bytes that are being parsed
        self._alone = True  # and these hold nothing of another request
        self._raw = self._told = 0  # bytes of the head as they came, and as the parser told them
        self._refused: GraftError | None = None
        self._deaf = False
        self._head_timer: Timer = None
        self._write_timer: Timer = None
        self._last_timer: Timer = None

    # Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        _watch(transport, self.limits.idle_seconds)
        if len(self.connections) > self.limits.connections:
            self._refuse(refusals.too_many_connections())
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        for timer in (self._head_timer, self._write_timer, self._last_timer):
            _cancel(timer)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    # Bytes

    def data_received(self, data: bytes) -> None:
        """Parse what came; nobody listens to a connection that was refused."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._fresh, self._alone = False, not (self._begun or self._busy())
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # nothing to upgrade to: the request is answered, and the connection ends with that
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            self._refuse(self._refused or refusals.invalid_http(_reason(error)))
        else:
            self._measure_head(len(data))

    def _measure_head(self, size: int) -> None:
        if not self._in_head:
            return
        if self._begun or not self._busy():
            self._await_head()
        if not self._begun:
            return
        # The parser tells a header only when it is whole, so one that never ends is measured as it comes.
        if self._fresh:
            self._raw = size if self._alone else self._told
        else:
            self._raw += size
        if self._raw > self.limits.header_bytes:
            self._refuse(refusals.headers_too_large(self.limits.header_bytes))

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: GraftError) -> None:
        """Tell the client, unless another reply is in its way, and hang up once it had time to read that."""
        self._deaf = True
        _cancel(self._head_timer)
        busy = self._busy()
        if busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if (busy and (self.cycle.response_started or self._in_head)) or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(refusals.written(error))
        # Closing at once with bytes unread would reset the connection, and the client might lose the reply.
        with suppress(OSError):
            self.transport.write_eof()
        self._last_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    # Heads

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = self._begun = self._fresh = True
        self._told = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's line."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those after the body are counted, not used."""
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)
            if len(self.headers) > refusals.MOST_HEADERS:
                self._stop(refusals.headers_too_large(self.limits.header_bytes))

    def on_headers_complete(self) -> None:
        """The head is whole: what is doubtful about it is refused before anybody acts on it."""
        doubt = self._doubt()
        if doubt is not None:
            self._stop(refusals.invalid_http(doubt))
        self._in_head = False
        _cancel(self._head_timer)
        self._head_timer = None
        super().on_headers_complete()

    def _doubt(self) -> str | None:
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version not in ("1.0", "1.1"):
            return f"its version is {version}"
        if hosts > 1 or (version == "1.1" and not hosts):
            return "it needs one Host header"
        if codings and (version == "1.0" or codings != [b"chunked"]):
            return "its Transfer-Encoding is not `chunked` alone"
        if self.parser.should_upgrade() and (codings or self._announces_body()):
            return "it has a body and asks for another protocol"
        return None

    def _announces_body(self) -> bool:
        return any(name == b"content-length" and value.strip(b" 0") for name, value in self.headers)

    def _count(self, size: int) -> None:
        self._told += size
        if self._told > self.limits.header_bytes:
            self._stop(refusals.headers_too_large(self.limits.header_bytes))

    def _stop(self, error: GraftError) -> None:
        self._refused = error
        raise RefusedError(error)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_seconds, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        if self._busy():
            self._await_head()  # what follows may wait until this request is answered
        elif self._begun:
            self._refuse(refusals.headers_late(self.limits.header_seconds))
        else:
            self.transport.close()

    # Ends

    def on_message_complete(self) -> None:
        """The request is whole; the next one may follow."""
        super().on_message_complete()
        self._in_head, self._begun = True, False
        _cancel(self._last_timer)
        if self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Answered. What the client still sends of a body that nobody wants is taken for a while, so that it reads."""
        super().on_response_complete()
        if not self._in_head and not self.transport.is_closing():
            self._last_timer = self.loop.call_later(LEFTOVER_SECONDS, self.transport.close)

    # Clients that do not take what they asked for

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """The client has taken enough."""
        _cancel(self._write_timer)
        super().resume_writing()

    def _await_taking(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.limits.idle_seconds, self._not_taken, waiting)

    def _not_taken(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            _forget(self.transport)
            self.transport.abort()
        else:
            self._await_taking()


def protocol(settings: Settings, **limits: Any) -> type[WireProtocol]:
    """The protocol with the limits that the settings name, as uvicorn's `http` option takes it."""
    made = Limits(settings.max_header_bytes, idle_seconds=settings.idle_seconds, **limits)
    return type("ConfiguredWireProtocol", (WireProtocol,), {"limits": made})


def _watch(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end connections whose other side vanished, or takes nothing, for that long."""
    connection = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1000, int(seconds * 1000)))


def _forget(transport: asyncio.Transport) -> None:
    """Let the kernel throw away what nobody takes, too."""
    with suppress(OSError, AttributeError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reason(error: Exception) -> str:
    """The parser's own words, where it has some."""
    if isinstance(error, (httptools.HttpParserCallbackError, httptools.HttpParserInvalidURLError)):
        return "its target is not a path"
    said = str(error)
    return said if said.isascii() and said.isprintable() and said else "it cannot be parsed"


def _cancel(timer: Timer) -> None:
    if timer is not None:
        timer.cancel()
