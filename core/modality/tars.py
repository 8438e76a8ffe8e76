"""Tar archives (POSIX ustar and pax, GNU long names), read with bounds.

The standard library keeps every member in memory and reads extended headers of any size; this reader holds one header
at a time and refuses one above 1 MiB.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from core.modality.archives import MIB, Entry, Listing, check_count, check_total, printable, read_at, unreadable
from core.settings import Settings

_BLOCK = 512
_REGULAR = b"0\07"
_FOLDER, _LINKS, _DEVICES = b"5", b"12", b"346"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"xX", b"g"


@dataclass(slots=True)
class _Extended:
    """What extended headers say about the entry that follows them."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def is_tar(head: bytes) -> bool:
    """Whether the first block is a tar header: its checksum is right (an empty tar is two blocks of zeros)."""
    return len(head) == _BLOCK and (not any(head) or _checksum_is_right(head))


def list_tar(path: Path, limits: Settings) -> Listing:
    """List a plain tar; errors as in `list_archive`. Only regular files are taken."""
    listing = Listing(path)
    with path.open("rb") as file:
        descriptor = file.fileno()
        length = os.fstat(descriptor).st_size
        at = count = unpacked = 0
        extended = _Extended()
        while any(header := _next_header(descriptor, at)):
            count += 1
            check_count(count, limits)
            kind = header[156:157]
            at += _BLOCK
            size = _data_size(header, kind, extended)
            if at + size > length:
                raise unreadable("its last file is not complete")
            if kind in _LONG_NAME + _LONG_LINK + _PAX + _PAX_GLOBAL:
                _extend(extended, kind, descriptor, at, size)
            else:
                unpacked += size
                _take(listing, header, extended, Entry(_name(header, extended), at, size, size), limits)
                extended = _Extended()
            at += -(-size // _BLOCK) * _BLOCK
        check_total(unpacked, length, limits)
    return listing


def _take(listing: Listing, header: bytes, extended: _Extended, entry: Entry, limits: Settings) -> None:
    kind = header[156:157]
    if kind == _FOLDER or (kind in _REGULAR and entry.name.endswith("/")):
        listing.add_folder(entry.name)
    elif kind in _LINKS:
        listing.refuse(entry.name, "link")
    elif kind not in _REGULAR or extended.sparse:
        listing.refuse(entry.name, "special_file")
    else:
        listing.add(entry, limits)


def _next_header(descriptor: int, at: int) -> bytes:
    """The header block at `at`; all zeros marks the end."""
    header = os.pread(descriptor, _BLOCK, at)
    if len(header) < _BLOCK:
        raise unreadable("its end mark is missing")
    if any(header) and not _checksum_is_right(header):
        raise unreadable(f"what stands at byte {at:,} is not a header")
    return header


def _checksum_is_right(header: bytes) -> bool:
    try:
        wanted = _number(header[148:156])
    except ValueError:
        return False
    blank = header[:148] + b" " * 8 + header[156:]
    # Some old programs summed signed bytes.
    return wanted == sum(blank) or wanted == sum(blank) - 256 * sum(byte > 127 for byte in blank)


def _number(digits: bytes) -> int:
    """An octal field, or GNU's base-256 for large ones; `ValueError` if it is neither."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    return int(digits.split(b"\0")[0].strip() or b"0", 8)


def _data_size(header: bytes, kind: bytes, extended: _Extended) -> int:
    """Bytes of data behind the header: links, folders and devices have none whatever they say."""
    if kind in _LINKS + _DEVICES + _FOLDER:
        return 0
    if extended.size is not None and kind not in _LONG_NAME + _LONG_LINK + _PAX + _PAX_GLOBAL:
        return extended.size
    try:
        size = _number(header[124:136])
    except ValueError:
        size = -1
    if size < 0:
        raise unreadable("an entry's size is not a number")
    return size


def _name(header: bytes, extended: _Extended) -> str:
    if extended.name is not None:
        return extended.name
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _extend(extended: _Extended, kind: bytes, descriptor: int, at: int, size: int) -> None:
    if size > MIB:
        raise unreadable("an extended header is larger than 1 MiB")
    data = read_at(descriptor, size, at)
    if kind == _LONG_NAME:
        extended.name = _text(data.split(b"\0")[0])
    elif kind in _PAX:
        _read_pax(extended, data)


def _read_pax(extended: _Extended, data: bytes) -> None:
    """Records of the form `<length> <key>=<value>\\n`, the length counting the whole record."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 12].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if not (space and equals) or at + length > len(data) or record[-1:] != b"\n":
            raise unreadable("an extended header is not valid")
        if key == b"path":
            extended.name = _text(value)
        elif key == b"size" and value.isdigit() and len(value) < 20:
            extended.size = int(value)
        elif key == b"size":
            raise unreadable(f"an entry's size is {printable(_text(value))!r}")
        elif key.startswith(b"GNU.sparse"):
            extended.sparse = True
        at += length
