"""Conditions and ranges of a download (RFC 9110, sections 13 and 14)."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Bytes from `start` up to, but without, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.stop - self.start


class UnsatisfiableRangeError(Exception):
    """The range lies outside the file."""


def wanted(header: str | None, size: int) -> Span | None:
    """The part of a file of `size` bytes that a `Range` header asks for.

    None means all of it: there is no range, an ill-formed one, or several (which a server may ignore).
    Raises `UnsatisfiableRangeError`.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        return _suffix(int(last), size)
    start, stop = int(first), int(last) + 1 if last else size
    if stop <= start and last:
        return None
    if start >= size:
        raise UnsatisfiableRangeError
    return Span(start, min(stop, size))


def _suffix(length: int, size: int) -> Span:
    if not length or not size:
        raise UnsatisfiableRangeError
    return Span(max(0, size - length), size)


def matches(header: str | None, etag: str) -> bool:
    """Whether an `If-None-Match` header names the tag (weak comparison)."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def range_allowed(if_range: str | None, etag: str) -> bool:
    """Whether a `Range` header counts: not if `If-Range` names another state of the file (strong comparison)."""
    return if_range is None or if_range.strip() == etag
