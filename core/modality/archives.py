"""Listing an uploaded archive without extracting it: where each file's bytes lie, and what was refused.

Names inside an archive are labels for people; nothing is ever written under them.
"""

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.modality.errors import ArchiveError, StoppedError
from core.settings import Settings

MIB = 1024 * 1024
MAX_NAME = 1024
TABLE_SUFFIXES = tuple(
    suffix + packed
    for suffix in (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
    for packed in ("", ".gz", ".bz2", ".xz")
)
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file in an archive; `offset` counts from the start of the content file."""

    name: str
    offset: int
    length: int
    size: int
    deflated: bool = False
    crc: int | None = None


@dataclass(frozen=True)
class Refused:
    """An entry that is not taken, and why (a fault code)."""

    name: str
    code: str


@dataclass
class Listing:
    """What an archive holds. `content` is the file that offsets count in; `content_sha256` is None for the upload.

    Not `is_archive`: something packed that is no tar, and may be a table.
    """

    content: Path
    content_sha256: str | None = None
    is_archive: bool = True
    entries: list[Entry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, name: str, code: str) -> None:
        """Note an entry that is left out."""
        self.refused.append(Refused(printable(name), code))

    def add(self, entry: Entry, limits: Settings) -> None:
        """Take an entry unless its name or size forbids it."""
        name = clean_name(entry.name)
        if name is None:
            self.refuse(entry.name, "unsafe_path")
        elif entry.size > _largest(name, limits):
            self.refuse(entry.name, "item_too_large")
        else:
            self.entries.append(Entry(name, entry.offset, entry.length, entry.size, entry.deflated, entry.crc))

    def add_folder(self, name: str) -> None:
        """Note a folder (an unsafe one is refused; the archive's own `./` is nothing to note)."""
        if name.strip("./") == "" and ".." not in name:
            return
        clean = clean_name(name.rstrip("/"))
        if clean is None:
            self.refuse(name, "unsafe_path")
        else:
            self.folders.append(clean)


def list_archive(upload: Path, *, limits: Settings, scratch: Path, should_stop: ShouldStop = lambda: False) -> Listing:
    """List a zip, tar, tar.gz, tar.bz2 or tar.xz, whatever it is called.

    A compressed tar is first decompressed, within the limits, to a new file in `scratch` (then `Listing.content`).

    Raises `ArchiveError`: `not_an_archive`, `unreadable_archive`, `archive_bomb`, `too_many_entries`,
    `archive_too_large`.
    """
    from core.modality.compressed import decompress
    from core.modality.table_source import HEAD, format_of
    from core.modality.tars import is_tar, list_tar
    from core.modality.zips import is_zip, list_zip

    with upload.open("rb") as file:
        head = file.read(512)
        if is_zip(file):
            return list_zip(upload, limits)
    if is_tar(head):
        return list_tar(upload, limits)
    content, sha256 = decompress(upload, head, limits=limits, scratch=scratch, should_stop=should_stop)
    try:
        with content.open("rb") as file:
            head = file.read(HEAD)
        if is_tar(head[:512]):
            listing = list_tar(content, limits)
        else:
            listing = _no_tar(content, is_table=format_of(head) is not None)
    except BaseException:
        content.unlink(missing_ok=True)
        raise
    listing.content_sha256 = sha256
    return listing


def clean_name(name: str) -> str | None:
    """The name as a plain relative path in Unicode NFC, or None if it could point out of a folder or misleads.

    Refused: absolute paths, drive letters, `..`, backslashes, control characters, over-long names.
    """
    if not name or len(name) > MAX_NAME or name.startswith("/") or "\\" in name or name[1:2] == ":":
        return None
    if not name.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return None
    parts = [part for part in unicodedata.normalize("NFC", name).split("/") if part not in ("", ".")]
    return None if not parts or ".." in parts else "/".join(parts)


def printable(name: str) -> str:
    """A name that is safe to show: control characters escaped, cut to a readable length."""
    shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else f"\\x{ord(c):02x}" for c in name)
    return shown if len(shown) <= 200 else shown[:197] + "..."


def check_count(count: int, limits: Settings) -> None:
    """`too_many_entries` above the limit."""
    if count > limits.max_entries:
        raise ArchiveError(
            f"The archive has more than {limits.max_entries:,} entries.",
            code="too_many_entries",
            hint="Split it into several data sets, or raise GRAFT_MAX_ENTRIES.",
            details={"limit": limits.max_entries},
        )


def check_total(unpacked: int, stored: int, limits: Settings) -> None:
    """`archive_too_large` or `archive_bomb` if the whole unpacks to too much."""
    if unpacked > limits.max_unpacked_bytes:
        raise ArchiveError(
            f"The archive unpacks to more than {limits.max_unpacked_bytes / 1e9:,.1f} GB.",
            code="archive_too_large",
            hint="Split it into several data sets, or raise GRAFT_MAX_UNPACKED_BYTES.",
            details={"limit": limits.max_unpacked_bytes},
        )
    check_ratio(unpacked, stored, limits, "The archive")


def check_ratio(unpacked: int, stored: int, limits: Settings, what: str) -> None:
    """`archive_bomb` if `what` is above 1 MiB and inflates by more than the limit."""
    if unpacked > MIB and unpacked > limits.max_ratio * max(stored, 1):
        raise bomb(
            f"{what} inflates to more than {limits.max_ratio:g} times its stored size.",
            "Photos never do. Make the archive without compression, or raise GRAFT_MAX_RATIO if the data is genuine.",
            limit=limits.max_ratio,
            unpacked_bytes=unpacked,
            stored_bytes=stored,
        )


def bomb(message: str, hint: str, **details: float | str) -> ArchiveError:
    """An archive made to exhaust whoever opens it."""
    return ArchiveError(message, code="archive_bomb", hint=hint, details=details)


def unreadable(why: str) -> ArchiveError:
    """An archive that is damaged or cut off."""
    return ArchiveError(
        f"The archive is damaged or cut off: {why}.",
        code="unreadable_archive",
        hint="Check that it opens on your machine, make it again and upload it.",
    )


def check_stop(should_stop: ShouldStop) -> None:
    """`StoppedError` if the work is not wanted any more."""
    if should_stop():
        raise StoppedError


def _no_tar(content: Path, *, is_table: bool) -> Listing:
    if not is_table:
        raise not_an_archive("a compressed file that holds no tar")
    return Listing(content, is_archive=False)


def _largest(name: str, limits: Settings) -> int:
    """A table may be larger than an item."""
    is_table = name.lower().endswith(TABLE_SUFFIXES)
    return max(limits.max_item_bytes, limits.max_table_bytes) if is_table else limits.max_item_bytes


def not_an_archive(what: str) -> ArchiveError:
    """Something that cannot be listed at all."""
    return ArchiveError(
        f"The upload is {what}, neither an archive of images nor a table.",
        code="not_an_archive",
        hint="Put images into class folders and upload them as one zip, tar or tar.gz; texts and rows as CSV, JSON "
        "lines or Parquet.",
    )


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Exactly `length` bytes at `offset`, or `unreadable_archive`."""
    data = os.pread(descriptor, length, offset) if offset >= 0 else b""
    if len(data) != length:
        raise unreadable("it ends too early")
    return data
