"""Finding the tables of an upload: the file itself, what it unpacks to, or the entries of an archive."""

import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.contract.base import new_id
from core.contract.datasets import Split
from core.modality.archives import Entry, Listing, check_stop
from core.modality.compressed import decompress
from core.modality.ingestion import Run
from core.modality.layout import is_clutter, split_of
from core.modality.table_csv import read_csv
from core.modality.table_errors import TableError, too_large, unreadable
from core.modality.table_frame import Table
from core.modality.table_json import read_json
from core.modality.table_parquet import read_parquet
from core.modality.table_source import Source, encoding_of, find_tables, format_of, head_of, lines_of

_PACKED_HEADS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_SHARD = re.compile(r"^([a-z]+)(?:[-_.]\d+(?:-of-\d+)?)?$")


def split_by_name(path: str) -> Split | None:
    """The split that a table's name (or its folder's) stands for: `train.csv`, `test-00000-of-00002.parquet`."""
    *folders, name = path.lower().split("/")
    found = _SHARD.match(name.split(".")[0])
    named = split_of(found[1]) if found else None
    return named or (split_of(folders[-1]) if folders else None)


def choose_tables(run: Run, listing: Listing) -> list[tuple[Entry, Split | None]]:
    """The one table of the archive, or those of its splits; `several_tables` if it is unclear which to take."""
    entries = find_tables(listing)
    proper = [entry for entry in entries if not entry.name.lower().endswith(".txt")] or entries
    splits = [split_by_name(entry.name) for entry in proper]
    if len(proper) > 1 and not all(splits):
        named = [(entry, split) for entry, split in zip(proper, splits, strict=True) if split]
        raise TableError(
            f"The archive holds {len(proper)} tables.",
            code="several_tables",
            hint="Upload one table, or one for each split: train.csv, val.csv, test.csv.",
            details={"tables": ", ".join(entry.name for entry in proper[:20]), "splits": len(named)},
        )
    taken = {entry.name for entry in proper}
    for entry in listing.entries:
        if entry.name not in taken:
            run.book.add("ignored_file" if is_clutter(entry.name) else "not_a_table", entry.name)
    if len(proper) == 1:
        return [(proper[0], None)]
    return list(zip(proper, splits, strict=True))


@contextmanager
def taken_out(run: Run, content: Path, entry: Entry) -> Iterator[Path]:
    """The entry as a file of its own, until the block ends."""
    if entry.size > run.limits.max_table_bytes:
        raise too_large(f"The table {entry.name!r}", run.limits)
    target = run.scratch / f"{new_id('req')}.table"
    try:
        _copy_out(content, entry, target, lambda: check_stop(run.should_stop))
        yield target
    finally:
        target.unlink(missing_ok=True)


@contextmanager
def unpacked(run: Run, path: Path) -> Iterator[Path]:
    """The file, or what it unpacks to, until the block ends."""
    head = head_of(path)
    if not head.startswith(_PACKED_HEADS):
        yield path
        return
    limits = run.limits
    limits = limits.model_copy(update={"max_unpacked_bytes": min(limits.max_unpacked_bytes, limits.max_table_bytes)})
    plain, _ = decompress(path, head, limits=limits, scratch=run.scratch, should_stop=run.should_stop)
    try:
        yield plain
    finally:
        plain.unlink(missing_ok=True)


def read_table(run: Run, path: Path, name: str = "", split: Split | None = None) -> Table:
    """Read one table, packed or not, whatever its format; raises `TableError`, `ArchiveError`."""
    with unpacked(run, path) as plain:
        form = format_of(head_of(plain))
        if form is None:
            raise unreadable("it is neither CSV, JSON lines nor Parquet", "Upload CSV, TSV, JSON lines or Parquet.")
        table = _read(run, Source(plain, form, name, split))
    table.name, table.split = name, split
    return table


def _read(run: Run, source: Source) -> Table:
    limits, book = run.limits, run.book
    if source.path.stat().st_size > limits.max_table_bytes:
        raise too_large("The table", limits)
    if source.format == "parquet":
        return read_parquet(source.path, limits, book)
    encoding = encoding_of(source.path, book, run.should_stop)

    def lines() -> Iterator[str]:
        return lines_of(source.path, encoding, book, limits.max_item_bytes, run.should_stop)

    if source.format == "json":
        return read_json(source.path, lines, limits, book)
    return read_csv(lines, limits, book)


def _copy_out(content: Path, entry: Entry, target: Path, pause: Callable[[], None]) -> None:
    descriptor = os.open(content, os.O_RDONLY)
    crc = size = 0
    try:
        with target.open("xb") as out:
            for chunk in _chunks(descriptor, entry):
                pause()
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
                out.write(chunk)
    except zlib.error as error:
        raise _damaged(entry) from error
    finally:
        os.close(descriptor)
    if size != entry.size or (entry.crc is not None and crc != entry.crc):
        raise _damaged(entry)


def _chunks(descriptor: int, entry: Entry) -> Iterator[bytes]:
    """At most one byte more than the entry declares."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if entry.deflated else None
    at, end, given = entry.offset, entry.offset + entry.length, 0
    data = b""
    while given <= entry.size:
        if not data:
            data = os.pread(descriptor, min(1 << 20, end - at), at)
            at += len(data)
            if not data:
                return
        chunk, data = (
            (data, b"") if inflater is None else (inflater.decompress(data, 1 << 20), inflater.unconsumed_tail)
        )
        given += len(chunk)
        yield chunk


def _damaged(entry: Entry) -> TableError:
    return unreadable(f"the archive's entry {entry.name!r} is damaged", "Make the archive again and upload it.")


def names_of(tables: Sequence[Table]) -> list[str]:
    """What each row is called: `row 17`, with the file's name where there are several."""
    several = len(tables) > 1
    return [f"{table.name} row {row}" if several else f"row {row}" for table in tables for row in table.rows]
