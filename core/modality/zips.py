"""Zip archives: the central directory, read with bounds (APPNOTE 6.3.10, sections 4.3 and 4.4).

The standard library reads the whole directory into memory before anything can be counted; this reader stops at the
limit, and finds where each entry's data begins.
"""

import itertools
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.modality.archives import (
    Entry,
    Listing,
    bomb,
    check_count,
    check_ratio,
    check_total,
    printable,
    read_at,
    unreadable,
)
from core.settings import Settings

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_UNIX = 3


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory lies; `shift` is added to every offset it names (bytes put before the zip)."""

    start: int
    size: int
    count: int
    shift: int


@dataclass(frozen=True, slots=True)
class _Header:
    """An entry of the central directory."""

    raw_name: bytes
    flags: int
    method: int
    mode: int
    crc: int
    stored: int
    size: int
    offset: int

    @property
    def name(self) -> str:
        """UTF-8 where it is (many tools forget to flag it), else code page 437."""
        try:
            return self.raw_name.decode()
        except UnicodeDecodeError:
            return (
                self.raw_name.decode("utf-8", "surrogateescape")
                if self.flags & _UTF8
                else self.raw_name.decode("cp437")
            )


def is_zip(file: BinaryIO) -> bool:
    """Whether the file is a zip, be it cut off: it begins with an entry or ends with a directory."""
    file.seek(0)
    return file.read(4) in (b"PK\3\4", b"PK\5\6") or _find_end(file.fileno()) is not None


def list_zip(path: Path, limits: Settings) -> Listing:
    """List a zip; errors as in `list_archive`. Overlapping entries are a bomb (Fifield, WOOT 2019) and refused."""
    listing = Listing(path)
    with path.open("rb") as file:
        descriptor = file.fileno()
        directory = _find_directory(descriptor, limits)
        spans: list[tuple[int, int]] = []
        unpacked = count = 0
        for header in _headers(descriptor, directory):
            count += 1
            check_count(count, limits)
            data = _data_offset(descriptor, header)
            if data + header.stored > directory.start:
                raise unreadable(f"the data of {printable(header.name)!r} is not there")
            spans.append((header.offset, data + header.stored))
            unpacked += header.size
            check_ratio(header.size, header.stored, limits, f"The entry {printable(header.name)!r}")
            _take(listing, header, data, limits)
        if count != directory.count:
            raise unreadable("its directory does not hold as many entries as it says")
        check_total(unpacked, os.fstat(descriptor).st_size, limits)
    _check_overlap(spans)
    return listing


def _take(listing: Listing, header: _Header, data: int, limits: Settings) -> None:
    name = header.name
    kind = stat.S_IFMT(header.mode)
    if name.endswith("/") or kind == stat.S_IFDIR:
        listing.add_folder(name)
    elif kind == stat.S_IFLNK:
        listing.refuse(name, "link")
    elif kind not in (0, stat.S_IFREG):
        listing.refuse(name, "special_file")
    elif header.flags & _ENCRYPTED:
        listing.refuse(name, "encrypted_entry")
    elif header.method not in (_STORED, _DEFLATED):
        listing.refuse(name, "unsupported_compression")
    elif header.method == _STORED and header.stored != header.size:
        listing.refuse(name, "damaged_entry")
    else:
        deflated = header.method == _DEFLATED
        listing.add(Entry(name, data, header.stored, header.size, deflated, header.crc), limits)


def _check_overlap(spans: list[tuple[int, int]]) -> None:
    spans.sort()
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            raise bomb("Entries of the archive share the same bytes.", "Make the archive again with a usual tool.")


def _find_end(descriptor: int) -> tuple[int, tuple[int, ...]] | None:
    """Position and fields of the end record: the last one whose comment reaches just to the end of the file."""
    length = os.fstat(descriptor).st_size
    start = max(0, length - _END.size - 0xFFFF)
    tail = os.pread(descriptor, length - start, start)
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if at + _END.size <= len(tail):
            fields = _END.unpack_from(tail, at)
            if at + _END.size + fields[7] == len(tail):
                return start + at, fields[1:]
    return None


def _find_directory(descriptor: int, limits: Settings) -> _Directory:
    end = _find_end(descriptor)
    if end is None:
        raise unreadable("its directory at the end is missing")
    position, (disk, cd_disk, _, count, size, offset, _) = end
    if 0xFFFF in (disk, cd_disk, count) or 0xFFFFFFFF in (size, offset):
        locator_at = position - _LOCATOR64.size
        if locator_at >= _END64.size and os.pread(descriptor, 4, locator_at) == b"PK\6\7":
            position = locator_at - _END64.size
            fields = _END64.unpack(read_at(descriptor, _END64.size, position))
            if fields[0] != b"PK\6\6":
                raise unreadable("its zip64 directory is not where it should be")
            disk, cd_disk, _, count, size, offset = fields[4:]
    if disk != 0 or cd_disk != 0:
        raise unreadable("it is one part of several")
    check_count(count, limits)
    start = position - size
    if start < 0 or start < offset:
        raise unreadable("its directory is not where it should be")
    return _Directory(start, size, count, start - offset)


def _headers(descriptor: int, directory: _Directory) -> Iterator[_Header]:
    """Read the directory piece by piece, so that a lying size costs no memory."""
    at, end = directory.start, directory.start + directory.size
    chunk, base = b"", at
    while at < end:
        if at - base + _CENTRAL.size + 3 * 0xFFFF > len(chunk) and base + len(chunk) < end:
            base, chunk = at, os.pread(descriptor, min(1 << 20, end - at), at)
        if at - base + _CENTRAL.size > len(chunk):
            raise unreadable("its directory is cut off")
        fields = _CENTRAL.unpack_from(chunk, at - base)
        name_at = at - base + _CENTRAL.size
        extra_at = name_at + fields[10]
        comment_at = extra_at + fields[11]
        if fields[0] != b"PK\1\2" or comment_at + fields[12] > len(chunk):
            raise unreadable("its directory is not valid")
        yield _header(fields, chunk[name_at:extra_at], chunk[extra_at:comment_at], directory.shift)
        at = base + comment_at + fields[12]


def _header(fields: tuple[int, ...], name: bytes, extra: bytes, shift: int) -> _Header:
    _, made, _, flags, method, _, _, crc, stored, size, _, _, _, _, _, attributes, offset = fields
    size, stored, offset = _zip64(extra, size, stored, offset)
    mode = attributes >> 16 if made >> 8 == _UNIX else 0
    return _Header(name, flags, method, mode, crc, stored, size, offset + shift)


def _zip64(extra: bytes, *values: int) -> list[int]:
    """Replace each value of 0xFFFFFFFF by the next 64-bit one of the zip64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra[: at + 4 + length], at + 4))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return list(values)


def _data_offset(descriptor: int, header: _Header) -> int:
    """Where the entry's data begins; the local header must agree with the directory's."""
    local = read_at(descriptor, _LOCAL.size, header.offset)
    fields = _LOCAL.unpack(local)
    names, extras = int(fields[9]), int(fields[10])
    if fields[0] != b"PK\3\4" or fields[3] != header.method or names != len(header.raw_name):
        raise unreadable(f"the entry {printable(header.name)!r} is not where it should be")
    if read_at(descriptor, names, header.offset + _LOCAL.size) != header.raw_name:
        raise unreadable(f"the entry {printable(header.name)!r} has two names")
    return header.offset + _LOCAL.size + names + extras
