"""The server on the wire, spoken to with raw sockets: what is no clean HTTP, too much, or too slow."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from core.settings import Settings
from core.store.store import Store
from tests.app.conftest import serving
from tests.app.seed import add_dataset, add_job
from tests.app.tus import MIB, pending, until

HOST = b"Host: localhost\r\n"
PATIENCE = 30.0


@pytest.fixture
def address(settings: Settings, sqlite_store: Store) -> Iterator[str]:
    """A server that is quick to lose patience."""
    impatient = settings.model_copy(update={"idle_seconds": 1.0, "max_header_bytes": 16 * 1024})
    with serving(impatient, header_seconds=1.0) as url:
        yield url


@contextmanager
def line(address: str) -> Iterator[socket.socket]:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def answer(connection: socket.socket) -> bytes:
    """A reply of /healthz, whole."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(65536)
    return received


def told(address: str, *sent: bytes) -> bytes:
    with line(address) as connection:
        for piece in sent:
            connection.sendall(piece)
        return everything(connection)


def refused(reply: bytes, status: int, code: str) -> dict[str, Any]:
    """The error of a reply, which must be our own and close the connection."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), reply
    headers = dict(row.lower().split(b": ", 1) for row in head.split(b"\r\n")[1:])
    error: dict[str, Any] = json.loads(body)["error"]
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body)
    assert error["code"] == code
    assert error["request_id"].encode() == headers[b"x-request-id"]
    assert error["hint"]
    return error


POST = b"POST /jobs HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"A: b\r\n folded\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n",
        b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 1, 1\r\n\r\na",
        POST + b"Content-Length: +1\r\n\r\na",
        POST + b"Content-Length: -1\r\n\r\na",
        POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\na",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /jobs HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_could_be_read_in_two_ways_is_400(sqlite_server: str, request_bytes: bytes) -> None:
    error = refused(told(sqlite_server, request_bytes), 400, "invalid_http")
    assert error["type"] == "invalid_request"
    assert httpx2.get(f"{sqlite_server}/healthz").status_code == 200


@pytest.mark.parametrize(
    "chunk", [b"zz\r\na\r\n", b"1\na\r\n0\r\n\r\n", b"-1\r\n", b"1\r\nab\r\n", b"f" * 40 + b"\r\n"]
)
def test_a_broken_chunk_is_400(sqlite_server: str, chunk: bytes) -> None:
    head = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(told(sqlite_server, head + chunk), 400, "invalid_http")


def test_headers_in_any_shape_are_bounded(address: str) -> None:
    head = b"GET /healthz HTTP/1.1\r\n" + HOST
    for request in (
        head + b"A: " + b"x" * 17_000 + b"\r\n\r\n",  # one long header, whole
        head + b"A: " + b"x" * 17_000,  # one that never ends
        head + b"".join(b"A%d: %s\r\n" % (i, b"x" * 1000) for i in range(20)) + b"\r\n",
        head + b"".join(b"A%d: x\r\n" % i for i in range(100)) + b"\r\n",
        b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /?" + b"x" * 17_000,
    ):
        error = refused(told(address, request), 431, "headers_too_large")
        assert error["details"] == {"limit_bytes": 16 * 1024, "limit_headers": 100}
    many = b"".join(b"A%d: x\r\n" % i for i in range(98))
    assert told(address, head + many + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_headers_that_drip_in_small_pieces_are_measured_together(address: str) -> None:
    with line(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"A: ")
        for _ in range(20):
            connection.sendall(b"x" * 1000)
            time.sleep(0.005)
        refused(everything(connection), 431, "headers_too_large")


def test_trailers_never_become_headers(sqlite_server: str) -> None:
    head = b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nConnection: close\r\n"
    late = b"X-Request-ID: smuggled\r\n"
    reply = told(sqlite_server, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + late + b"\r\n")
    assert reply.startswith(b"HTTP/1.1 422")
    assert b"smuggled" not in reply
    flood = b"".join(b"T%d: x\r\n" % i for i in range(20_000))
    assert b"HTTP/1.1 200" not in told(
        sqlite_server, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + flood + b"\r\n"
    )


def test_headers_that_never_end_are_408_and_silence_is_hung_up_on(address: str) -> None:
    began = time.monotonic()
    with line(address) as drip, line(address) as silent:
        drip.sendall(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(3):
            time.sleep(0.2)
            drip.sendall(b"A: b\r\n")  # activity does not buy time
        refused(everything(drip), 408, "request_timeout")
        assert everything(silent) == b""
    assert time.monotonic() - began < PATIENCE / 2


def test_a_body_that_stops_is_408_and_leaves_nothing(address: str, sqlite_store: Store) -> None:
    for head, body in (
        (b"POST /jobs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n", b'{"source": '),
        (b"POST /datasets HTTP/1.1\r\nContent-Type: application/zip\r\nContent-Length: 8000000\r\n", b"x" * 2 * MIB),
        (b"POST /datasets HTTP/1.1\r\nContent-Type: application/zip\r\nTransfer-Encoding: chunked\r\n", b"2\r\nPK\r\n"),
    ):
        refused(told(address, head + HOST + b"\r\n", body), 408, "request_timeout")
    until(lambda: not pending(sqlite_store))
    assert httpx2.get(f"{address}/datasets").json()["data"] == []


def test_a_body_nobody_wants_does_not_hold_the_connection(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply comes at once; whoever goes on sending is hung up on soon after."""
    monkeypatch.setattr("app.server.protocol.LEFTOVER_SECONDS", 1.0)
    with line(address) as connection:
        connection.sendall(b"POST /jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 100000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError):
            for _ in range(300):
                connection.sendall(b"x")
                time.sleep(0.1)


def test_a_connection_is_kept_for_a_while_and_http_1_0_is_not(address: str) -> None:
    old = told(address, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200")
    with line(address) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")  # a stray line end, then nothing
        assert everything(connection) == b""
    both = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    assert told(address, both).count(b"HTTP/1.1 200") == 2


def test_too_many_connections_are_503(settings: Settings, sqlite_store: Store) -> None:
    with serving(settings, connections=3) as url:
        with line(url), line(url), line(url) as third:
            third.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answer(third).startswith(b"HTTP/1.1 200")
            reply = told(url)
            refused(reply, 503, "too_many_connections")
            assert b"retry-after: " in reply.lower()
        until(lambda: httpx2.get(f"{url}/healthz").status_code == 200)


def test_whoever_takes_nothing_of_a_download_is_hung_up_on(address: str, sqlite_store: Store) -> None:
    """The page of the API's description, asked for again and again, and never read."""
    with line(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST + b"\r\n"
        connection.sendall(request * 10)
        until(lambda: connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))  # reset; seen without reading
    assert httpx2.get(f"{address}/healthz").status_code == 200


def test_an_event_stream_that_is_read_stays(address: str, sqlite_store: Store) -> None:
    """Silence of the server is no fault of the client: a stream outlives the limit many times."""
    job = add_job(sqlite_store, add_dataset(sqlite_store))
    with line(address) as connection:
        connection.sendall(
            f"GET /jobs/{job}/events HTTP/1.1\r\nAccept: text/event-stream\r\n".encode() + HOST + b"\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.settimeout(4)
        with pytest.raises(TimeoutError):
            while connection.recv(65536):
                pass


def test_many_slow_clients_do_not_keep_others_out(address: str) -> None:
    stop = threading.Event()

    def crawl(send: Callable[[bytes], object]) -> None:
        while not stop.wait(0.1):
            try:
                send(b"x")
            except OSError:
                return

    with line(address) as one:
        slow = [socket.create_connection(one.getpeername()) for _ in range(100)]
        threads = [threading.Thread(target=crawl, args=(connection.send,)) for connection in slow[:20]]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert httpx2.get(f"{address}/healthz", timeout=10).status_code == 200
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for connection in slow:
                connection.close()
