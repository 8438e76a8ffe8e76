"""What a file is by its first bytes: CSV, JSON lines or Parquet; and its text, line by line, whatever its encoding."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.contract.datasets import Split
from core.modality.archives import TABLE_SUFFIXES, Entry, Listing, ShouldStop, check_stop
from core.modality.faults import FaultBook
from core.modality.image import looks_like_image
from core.modality.layout import is_clutter
from core.modality.table_errors import TableError

HEAD = 64 * 1024
Format = Literal["csv", "json", "parquet"]
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (b"%PDF", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd", b"{\\rtf", b"SQLite format", b"PK\3\4", b"#!")
_PRINTING = frozenset(b"\t\n\r\f\x1b")


@dataclass(frozen=True)
class Source:
    """A file that holds a table. `name` is the one in its archive, empty for an upload that is the table itself."""

    path: Path
    format: Format
    name: str = ""
    split: Split | None = None


def format_of(head: bytes) -> Format | None:
    """The format of a file that begins so; None if it is no table."""
    if head[:4] == b"PAR1":
        return "parquet"
    if looks_like_image(head) or head.startswith(_OTHERS):
        return None
    encoding = _wide(head)
    if encoding is None and sum(byte < 32 and byte not in _PRINTING for byte in head) > 2 + len(head) / 50:
        return None
    text = head.decode(encoding or "utf-8", "replace").lstrip()
    if text[:1] == "<":
        return None
    if text[:1] == "{" or (text[:1] == "[" and text[1:].lstrip()[:1] in ("{", "]")):
        return "json"
    return "csv" if len(text.splitlines()) > 1 or any(mark in text for mark in ",;\t|") else None


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD)


def find_tables(listing: Listing) -> list[Entry]:
    """The entries of an archive that are tables by their names."""
    return [
        entry for entry in listing.entries if entry.name.lower().endswith(TABLE_SUFFIXES) and not is_clutter(entry.name)
    ]


def encoding_of(path: Path, book: FaultBook, should_stop: ShouldStop) -> str:
    """The encoding of a text: by its mark, else UTF-8 where all of it is; else Windows-1252, which is a fault."""
    with path.open("rb") as file:
        wide = _wide(file.read(HEAD))
        if wide is not None:
            return wide
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        at = 0
        try:
            while chunk := file.read(1 << 20):
                check_stop(should_stop)
                decoder.decode(chunk)
                at += len(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            book.add("not_utf8", f"near byte {at + error.start:,}")
            return "cp1252"
    return "utf-8"


def lines_of(path: Path, encoding: str, book: FaultBook, longest: int, should_stop: ShouldStop) -> Iterator[str]:
    """The lines of a text with their ends; a byte without a meaning becomes U+FFFD and is noted once.

    Raises `TableError` for a line of more than `longest` characters.
    """
    damaged = False
    errors = "replace" if encoding != "cp1252" else "latin-1-where-undefined"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        for number in range(1 << 62):
            if number % 4096 == 0:
                check_stop(should_stop)
            line = file.readline(longest + 1)
            if not line:
                return
            if len(line) > longest:
                raise TableError(
                    f"Line {number + 1:,} has more than {longest:,} characters.",
                    hint="A table has a row in each line. Or raise GRAFT_MAX_ITEM_BYTES.",
                )
            if not damaged and encoding[:5] in ("utf-1", "utf-3") and "\N{REPLACEMENT CHARACTER}" in line:
                damaged = True
                book.add("damaged_text", f"line {number + 1}")
            yield line


def _latin(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("latin-1-where-undefined", _latin)


def _wide(head: bytes) -> str | None:
    """An encoding that shows in the first bytes: by a mark, or because every other byte is zero."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    even, odd = head[0:4096:2], head[1:4096:2]
    if len(head) >= 4 and odd and even.count(0) * 20 < len(even) and odd.count(0) * 2 > len(odd):
        return "utf-16-le"
    if len(head) >= 4 and odd and odd.count(0) * 20 < len(odd) and even.count(0) * 2 > len(even):
        return "utf-16-be"
    return None


def dumps(value: object) -> str:
    """Compact JSON, in letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
