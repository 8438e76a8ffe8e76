"""What can be uploaded: an archive, an open file, bytes, or a folder that is packed on the way."""

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from graft._transport import Body

Source = str | os.PathLike[str] | bytes | BinaryIO
OnProgress = Callable[[int, int], None]
_CHUNK = 1024 * 1024
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip", *(f"{suffix}.gz" for suffix in _TABLES), *_TABLES)


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The bytes to send as a seekable file that stands at their beginning."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with _opened_path(Path(source).expanduser()) as file:
            yield file
    elif source.seekable():
        yield source
    else:
        with tempfile.TemporaryFile(prefix="graft-") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)
            copy.seek(0)
            yield copy


@contextmanager
def _opened_path(path: Path) -> Iterator[BinaryIO]:
    if not path.is_dir():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile(prefix="graft-") as packed:
        pack(path, packed)
        packed.seek(0)
        yield packed


def pack(folder: Path, out: BinaryIO) -> int:
    """Write the folder as an uncompressed zip and return the number of files.

    The same files give the same bytes. Names that begin with a dot are left out, links are followed.
    Raises `ValueError` if nothing is left.
    """
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, path in _files(folder, "", ()):
            entry = zipfile.ZipInfo(name)  # dated 1980, so that packing twice gives identical bytes
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as file, archive.open(entry, "w") as target:
                shutil.copyfileobj(file, target, _CHUNK)
            count += 1
    if not count:
        raise ValueError(f"There are no files in the folder {folder}.")
    return count


def _files(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder we are in
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", (*above, real))
        elif entry.is_file():
            yield prefix + entry.name, Path(entry.path)


def body(file: BinaryIO, on_progress: OnProgress | None = None) -> Body:
    """A request body from where `file` stands to its end; every try reads it again from there."""
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    head = file.read(512)

    def chunks() -> Iterator[bytes]:
        file.seek(start)
        sent = 0
        while chunk := file.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            if on_progress is not None:
                on_progress(sent, size)

    return Body(chunks, size, _content_type(head))


def _content_type(head: bytes) -> str:
    if head.startswith(b"PK"):
        return "application/zip"
    if head.startswith(b"\x1f\x8b"):
        return "application/gzip"
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return "application/octet-stream"


def name_of(source: Source) -> str | None:
    """A name for the data set, from the file's or folder's own."""
    if isinstance(source, bytes):
        return None
    if not isinstance(source, (str, os.PathLike)):
        source = str(getattr(source, "name", ""))
    path = Path(source)
    name = path.name or path.resolve().name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return "".join(c for c in name if c.isprintable())[:256] or None
