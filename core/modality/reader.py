"""Reading a data set's items out of its content blob: random access, no extraction."""

import hashlib
import os
import sys
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from PIL import Image

from core.contract.datasets import DatasetManifest
from core.modality import preparers
from core.modality.errors import CorruptContentError, UnreadableItemError
from core.modality.image import decode


class Stored(Protocol):
    """Where an item's bytes lie in a file; `Item` of a manifest and `Entry` of an archive are such."""

    @property
    def offset(self) -> int:
        """First byte."""

    @property
    def length(self) -> int:
        """Stored bytes."""

    @property
    def size(self) -> int:
        """Bytes after inflating."""

    @property
    def deflated(self) -> bool:
        """Whether they are a raw DEFLATE stream."""


def read_stored(descriptor: int, place: Stored) -> bytes:
    """The item's bytes, exactly `size` of them; never inflates more than that. Safe to call from many threads.

    Raises `UnreadableItemError` (`damaged_entry`) where the file ends early or the stream does not give that size.
    """
    stored = _pread(descriptor, place.length, place.offset)
    if len(stored) != place.length:
        raise _damaged("the file ends before the item does")
    if not place.deflated:
        return stored
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(stored, place.size + 1)
    except zlib.error as error:
        raise _damaged("its compressed data is not valid") from error
    if len(data) != place.size or not inflater.eof:
        raise _damaged("it does not inflate to the size it declares")
    return data


class DatasetReader:
    """Items of a data set by index, in the manifest's order.

    Threads may share one reader; it survives a fork and may be pickled (the copy opens the file anew).
    """

    def __init__(self, manifest: DatasetManifest, content: Path) -> None:
        self.manifest = manifest
        self.content = content
        self._descriptor = -1
        self._descriptor = os.open(content, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __len__(self) -> int:
        return len(self.manifest.items)

    def read(self, index: int) -> bytes:
        """The item's file bytes.

        `CorruptContentError` if the blob no longer holds them (size and SHA-256 are checked), `IndexError` outside of
        0..len-1, `ValueError` on a closed reader.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        if self._descriptor < 0:
            raise ValueError("the reader is closed")
        item = self.manifest.items[index]
        try:
            data = read_stored(self._descriptor, item)
        except UnreadableItemError as error:
            raise _corrupt(item.name) from error
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise _corrupt(item.name)
        return data

    def size(self, index: int) -> int:
        """Bytes of the item, known without reading it."""
        return self.manifest.items[index].size

    def item(self, index: int) -> Any:
        """The item decoded as its modality says: an upright RGB image, a text, or a row {column: value}."""
        return preparers.decode(self.manifest.modality, self.read(index))

    def image(self, index: int, *, max_pixels: int = sys.maxsize) -> Image.Image:
        """The item as an upright RGB image, as `core.modality.image.decode` makes it.

        Ingestion has already checked the size; `max_pixels` is for a tighter limit.
        """
        return decode(self.read(index), max_pixels=max_pixels)

    def close(self) -> None:
        """Close the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return DatasetReader, (self.manifest, self.content)


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length:  # a read may stop short, e.g. above 2 GiB
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _damaged(why: str) -> UnreadableItemError:
    return UnreadableItemError(
        f"The entry is damaged: {why}.", code="damaged_entry", hint="Make the archive again and upload it."
    )


def _corrupt(name: str) -> CorruptContentError:
    return CorruptContentError(
        f"The stored bytes of {name!r} are not the ones that were uploaded.",
        hint="The disk or a tool has changed the data folder. Restore it from a backup, or upload the data set again.",
    )
