"""A tiny HTTP server that plays a script: what no real service does on demand (fail once, cut a line)."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What to answer. `cut_after` closes the connection after so many bytes of the body."""

    status: int = 200
    body: bytes | Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    chunked: bool = False


Answers = Answer | Callable[[Seen], Answer]
Script = Mapping[tuple[str, str], Sequence[Answers]]


class Scripted:
    """Plays for each (method, path) its list of answers; the last one is repeated."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.url = ""
        self._played: dict[tuple[str, str], int] = defaultdict(int)
        self._lock = threading.Lock()

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            key = (seen.method, seen.path)
            answers = self.script[key]
            chosen = answers[min(self._played[key], len(answers) - 1)]
            self._played[key] += 1
        return chosen(seen) if callable(chosen) else chosen


@contextmanager
def serving(script: Script) -> Iterator[Scripted]:
    """Run the script on an ephemeral port of the loopback."""
    play = Scripted(script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(play))
    server.daemon_threads = False  # so that closing waits for every handler
    play.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield play
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(play: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # one request a connection: nothing lingers

        def handle_any(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.reply(play.answer(Seen(self.command, path, query, headers, body)))

        def reply(self, answer: Answer) -> None:
            body, headers = answer.body, dict(answer.headers)
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
                headers.setdefault("Content-Type", "application/json")
            self.send_response(answer.status)
            if not answer.chunked:
                headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if answer.cut_after is None else body[: answer.cut_after])

        do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler
