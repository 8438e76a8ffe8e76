"""Server-sent events: bytes in, messages out (WHATWG HTML, section 9.2)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # a CR at the very end may be half of a CRLF


@dataclass(frozen=True)
class Message:
    """One event; `id` is the last id that was sent, empty if none was."""

    event: str
    data: str
    id: str = ""


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream into lines ended by LF, CRLF or CR; a last line without an end is dropped."""
    rest = b""
    for chunk in chunks:
        *whole, rest = _LINE_END.split(rest + chunk)
        for line in whole:
            yield line.decode("utf-8", "replace")
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", "replace")


def messages(chunks: Iterable[bytes]) -> Iterator[Message | None]:
    """Parse a stream; None stands for a keep-alive comment. An event cut off by the end of the stream is dropped."""
    event, last_id = "", ""
    data: list[str] = []
    for number, raw in enumerate(lines(chunks)):
        line = raw.removeprefix("\ufeff") if number == 0 else raw
        if not line:
            if data:
                yield Message(event or "message", "\n".join(data), last_id)
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            yield None
        elif field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            last_id = value
