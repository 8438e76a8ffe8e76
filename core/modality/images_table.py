"""A table beside images that names each file and its label (`file_name`, as Hugging Face's ImageFolder has it)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from core.contract.datasets import Split
from core.modality.archives import Entry, clean_name
from core.modality.ingestion import Run
from core.modality.layout import split_of
from core.modality.named import Named
from core.modality.table_columns import words_of
from core.modality.table_errors import TableError
from core.modality.table_frame import Table, stacked
from core.modality.table_open import read_table, taken_out
from core.modality.table_roles import find_roles
from core.modality.table_targets import Notes, Target, read_target

_FILE = ("file_name", "filename", "file", "image", "path")


def name_images(run: Run, content: Path, images: Sequence[Entry], tables: Sequence[Entry]) -> Named | None:
    """Read the tables that stand highest in the archive; None (and a fault) where they say nothing of a target.

    Raises `TableError` where what the reading asks for is not there.
    """
    least = min(_depth(entry) for entry in tables)
    tables = [entry for entry in tables if _depth(entry) == least]
    read = []
    for entry in tables:
        with taken_out(run, content, entry) as path:
            read.append(read_table(run, path, entry.name, split_of(_folder(entry).rpartition("/")[2])))
    files = [_file_column(table) for table in read]
    if any(column is None for column in files):
        _unused(run, tables)
        return None
    paths = [_path(table, row) for table, column in zip(read, files, strict=True) for row in _words(table, column)]
    splits = [table.split for table in read for _ in range(len(table.rows))]
    for table, column in zip(read, files, strict=True):
        table.frame = table.frame.drop(str(column))
    table = stacked(read, run.book)
    found = _read(run, table, [path or "" for path in paths])
    if found is None:
        _unused(run, tables)
        return None
    target, said = found
    given = [one or other for one, other in zip(said, splits, strict=True)]
    return _matched(run, images, paths, target, given)


def _read(run: Run, table: Table, names: Sequence[str]) -> tuple[Target, list[Split | None]] | None:
    if not table.frame.columns:
        return None
    roles = find_roles(table, run.reading, run.book)
    if not roles.targets or roles.text in roles.targets:
        return None
    target = read_target(table, roles.targets, run.reading, run.limits, Notes(run.book, names))
    splits: list[Split | None] = [None] * len(names)
    if roles.split is not None:
        splits = [split_of(word or "") for word in words_of(table.frame[roles.split]).to_list()]
    return target, splits


def _matched(
    run: Run, images: Sequence[Entry], paths: Sequence[str | None], said: Target, splits: Sequence[Split | None]
) -> Named:
    """Rows and files brought together; those that have no partner are faults."""
    index = {entry.name: number for number, entry in enumerate(images)}
    taken: dict[int, int] = {}
    usable = said.usable()
    named = set()
    for row, path in enumerate(paths):
        image = None if path is None else index.get(path)
        if image is None:
            run.book.add("missing_image", (path or "(no file name)")[:200])
        elif image in named:
            run.book.add("file_named_twice", images[image].name)
        else:
            named.add(image)
            if usable[row]:
                taken[image] = row
    for number, entry in enumerate(images):
        if number not in named:
            run.book.add("image_not_named", entry.name)
    if not taken:
        raise TableError(
            "The table beside the images names none of them.",
            code="no_images",
            hint="Write each path as it stands in the archive, from the table's folder on, into `file_name`.",
        )
    rows = [taken[image] for image in taken]
    return Named(
        said.problem, said.target, list(taken), [said.answers[row] for row in rows], [splits[row] for row in rows]
    )


def _file_column(table: Table) -> str | None:
    lower: Mapping[str, str] = {name.lower(): name for name in reversed(table.frame.columns)}
    name = next((lower[name] for name in _FILE if name in lower), None)
    return name if name is not None and table.frame[name].dtype == pl.String else None


def _words(table: Table, column: str | None) -> list[str | None]:
    return list(table.frame[str(column)].to_list())


def _path(table: Table, file: str | None) -> str | None:
    """The file's path in the archive: it counts from the table's folder."""
    folder = table.name.rpartition("/")[0]
    name = (file or "").strip().replace("\\", "/")
    return clean_name(f"{folder}/{name}" if folder else name) if name else None


def _unused(run: Run, tables: Sequence[Entry]) -> None:
    for entry in tables:
        run.book.add("metadata_unused", entry.name)


def _folder(entry: Entry) -> str:
    return entry.name.rpartition("/")[0]


def _depth(entry: Entry) -> int:
    return entry.name.count("/")
