"""Decoding every image of an upload once, to know that it can be used."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.modality.archives import Entry, ShouldStop, check_stop
from core.modality.errors import UnreadableItemError
from core.modality.image import decode_sized, looks_like_image
from core.modality.reader import read_stored

_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Checked:
    """A usable image. `pixels` tells exact copies: equal size and equal RGB values, whatever the file format."""

    sha256: str
    pixels: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """An image that cannot be used; `code` is a fault's."""

    code: str


def check_images(
    content: Path,
    entries: Sequence[Entry],
    *,
    max_pixels: int,
    workers: int,
    on_progress: Callable[[float], None],
    should_stop: ShouldStop,
) -> list[Checked | Unusable]:
    """Read and decode every entry, in a few threads (decoders release the interpreter); results in order.

    `StoppedError` soon after `should_stop` says so. Memory: one decoded image per worker.
    """
    results: list[Checked | Unusable] = []
    chunks = [entries[at : at + _CHUNK] for at in range(0, len(entries), _CHUNK)]
    with _descriptor(content) as descriptor, ThreadPoolExecutor(workers, "verify") as pool:
        try:
            for checked in pool.map(lambda chunk: [_check(descriptor, entry, max_pixels) for entry in chunk], chunks):
                results += checked
                check_stop(should_stop)
                on_progress(len(results) / len(entries))
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def sniff(content: Path, entries: Sequence[Entry]) -> list[bool]:
    """Whether each entry begins like an image, whatever it is called."""
    with _descriptor(content) as descriptor:
        return [looks_like_image(_head(descriptor, entry)) for entry in entries]


def _check(descriptor: int, entry: Entry, max_pixels: int) -> Checked | Unusable:
    if entry.size == 0:
        return Unusable("empty_file")
    try:
        data = read_stored(descriptor, entry)
        if entry.crc is not None and zlib.crc32(data) != entry.crc:
            return Unusable("damaged_entry")
        image, (width, height) = decode_sized(data, max_pixels=max_pixels)
    except UnreadableItemError as error:
        return Unusable(error.code)
    pixels = hashlib.sha256(b"%d %d " % (width, height))
    pixels.update(image.tobytes())
    return Checked(hashlib.sha256(data).hexdigest(), pixels.digest(), width, height)


def _head(descriptor: int, entry: Entry) -> bytes:
    stored = os.pread(descriptor, min(entry.length, 512), entry.offset)
    if not entry.deflated:
        return stored[:16]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, 16)
    except zlib.error:
        return b""


@contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
