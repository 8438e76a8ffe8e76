"""One HTTP POST to an address that was looked up and checked beforehand: no redirect, no proxy, a limit on its time."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from core.outbound import Address, Target

MOST_BYTES = 64 * 1024


class SendError(Exception):
    """Nothing came back that counts as an answer; the text says why and names no address."""


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, whatever the host's name says meanwhile; TLS is checked against that name."""

    def __init__(self, target: Target, address: Address, tls: ssl.SSLContext | None, seconds: float) -> None:
        super().__init__(_bracketed(target.host), target.port, timeout=seconds)
        self._target = target
        self._address = address
        self._tls = tls
        self.default_port = 443 if tls else 80  # decides whether the Host header names the port

    def connect(self) -> None:
        """Connect, and shake hands if it is https."""
        self.sock = socket.create_connection((str(self._address), self._target.port), self.timeout)
        if self._tls is not None:
            # Without the handshake, so that `break_off` can already reach the socket while it shakes hands.
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()

    def break_off(self) -> None:
        """End the exchange from another thread: a receiver that drips bytes never runs into a socket's time limit."""
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def post(
    target: Target,
    addresses: list[Address],
    body: bytes,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext,
    deadline: float,
) -> int:
    """Send the body and return the status of the answer, until `deadline` (of `time.monotonic`); `SendError`.

    Tries the addresses in turn until one lets itself be connected to.
    """
    error: SendError = SendError("the host has no address")
    for address in addresses:
        connection = _Pinned(target, address, tls if target.scheme == "https" else None, _left(deadline))
        watch = threading.Timer(_left(deadline), connection.break_off)
        watch.daemon = True
        watch.start()
        try:
            connection.connect()
        except (OSError, ValueError) as failure:
            error = SendError(_reason(failure, deadline))
            watch.cancel()
            connection.close()
            continue
        try:
            return _exchange(connection, target, body, headers, deadline)
        except (OSError, ValueError, http.client.HTTPException) as failure:
            raise SendError(_reason(failure, deadline)) from failure
        finally:
            watch.cancel()
            connection.close()
    raise error


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise SendError("it took too long")
    return left


def _exchange(connection: _Pinned, target: Target, body: bytes, headers: Mapping[str, str], deadline: float) -> int:
    connection.request("POST", target.path, body, {**headers, "Connection": "close"})
    response = connection.getresponse()
    _left(deadline)  # an answer that was broken off may look like a whole one
    with suppress(OSError, http.client.HTTPException):  # the status is what counts
        response.read(MOST_BYTES)
    response.close()
    return response.status


def _reason(error: Exception, deadline: float) -> str:
    """What went wrong, in words that hold for any address."""
    if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        return "it took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    return next(words for kind, words in _WORDS if isinstance(error, kind))


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLError, "it does not speak TLS as it should"),
    (ConnectionRefusedError, "it refused the connection"),
    (ConnectionError, "it hung up"),
    (OSError, "it could not be reached"),
    (Exception, "its answer is not HTTP"),
)
