"""A table of texts or of rows -> manifest, report and a content file of its items."""

import statistics
from collections.abc import Hashable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from core.contract.datasets import DatasetManifest, Item, Modality, Split
from core.modality.answers import answers_of
from core.modality.archives import Entry, Listing, check_stop
from core.modality.copies import is_coarse, without_copies
from core.modality.freezing import report_on, split_up
from core.modality.ingestion import Ingested, Run
from core.modality.layout import split_of
from core.modality.table_columns import as_text
from core.modality.table_content import Content, rows, texts, write_content
from core.modality.table_errors import TableError, mostly_unreadable, too_large, wrong_reading
from core.modality.table_frame import Table, stacked
from core.modality.table_names import item_names
from core.modality.table_open import choose_tables, names_of, read_table, taken_out
from core.modality.table_roles import Roles, find_roles
from core.modality.table_targets import Notes, Target, read_target

_UNLEARNT = ("identifier", "constant", "text")


def ingest_table(run: Run, upload: Path) -> Ingested:
    """An upload that is a table itself; raises `TableError`, `ArchiveError`."""
    return _TableIngest(run, [read_table(run, upload)]).run()


def ingest_archive(run: Run, listing: Listing) -> Ingested:
    """An archive of one table, or of one for each split."""

    def read(entry: Entry, split: Split | None) -> Table:
        with taken_out(run, listing.content, entry) as path:
            return read_table(run, path, entry.name, split)

    return _TableIngest(run, [read(entry, split) for entry, split in choose_tables(run, listing)]).run()


class _TableIngest:
    """One data set out of one or several tables."""

    def __init__(self, run: Run, tables: Sequence[Table]) -> None:
        self.ingestion = run
        self.book = run.book
        self.given = [table.split for table in tables for _ in range(len(table.rows))]
        self.names = names_of(tables)
        self.called: list[str] = []
        self.table = stacked(tables, run.book)
        self.usable = pl.repeat(value=True, n=len(self.names), dtype=pl.Boolean, eager=True)

    def run(self) -> Ingested:
        """From columns to the data set."""
        self._check_modality()
        self._drop_nul()
        roles = find_roles(self.table, self.ingestion.reading, self.book)
        self.called = item_names(self.names, roles.features)
        self.ingestion.on_progress(0.4)
        notes = Notes(self.book, self.names)
        target = read_target(self.table, roles.targets, self.ingestion.reading, self.ingestion.limits, notes)
        if roles.targets:
            self.usable &= pl.Series(target.usable(), dtype=pl.Boolean)
        self._read_splits(roles.split, notes)
        return self._text(roles, target) if roles.text is not None else self._rows(roles, target)

    def _check_modality(self) -> None:
        if self.ingestion.reading.modality == "image":
            raise wrong_reading("The upload is a table, not an archive of images.", "Leave out `modality`.")

    def _drop_nul(self) -> None:
        """No database keeps a NUL in a text, and no text has one."""
        found = pl.repeat(value=False, n=len(self.names), dtype=pl.Boolean, eager=True)
        for column in self.table.frame.iter_columns():
            if column.dtype == pl.String:
                found |= column.str.contains("\0", literal=True).fill_null(value=False)
        if not found.any():
            return
        Notes(self.book, self.names).each("nul_character", found)
        keep = (~found).to_list()
        self.names = [name for name, kept in zip(self.names, keep, strict=True) if kept]
        self.given = [split for split, kept in zip(self.given, keep, strict=True) if kept]
        self._require(len(self.names), len(keep))
        self.table.keep(~found)
        self.usable = self.usable.filter(~found)

    def _read_splits(self, column: str | None, notes: Notes) -> None:
        if column is None:
            return
        words = self.table.frame[column].cast(pl.String).str.strip_chars()
        known = {word: split_of(word) for word in words.unique().drop_nulls().to_list()}
        wrong = pl.Series([bool(word) and known[word] is None for word in words.to_list()], dtype=pl.Boolean)
        notes.each("unknown_split", wrong, words)
        self.usable &= ~wrong
        self.given = [known.get(word) or split for word, split in zip(words.to_list(), self.given, strict=True)]

    def _text(self, roles: Roles, target: Target) -> Ingested:
        assert roles.text is not None
        column = as_text(self.table.frame[roles.text]).values
        others = [one.column for one in roles.features if one.column.name != roles.text]
        for one in others:
            if one.kind not in ("identifier", "constant"):
                self.book.add("unused_column", one.name)
        self.table.frame = pl.DataFrame()
        kept = self._usable("empty_text", column.is_null(), column.str.len_bytes().fill_null(0).cast(pl.Int64))
        column = column.filter(self.usable)
        content = write_content(self.ingestion.scratch, texts(column), self._tick)
        lengths = column.str.len_chars().to_list()
        spread = (min(lengths), int(statistics.median(lengths)), max(lengths))
        keys = [sha256(text.encode()).digest() for text in column.str.strip_chars().to_list()]
        return self._finish("text", content, keys, kept, target, characters=spread)

    def _rows(self, roles: Roles, target: Target) -> Ingested:
        features = roles.features
        learnt = [one for one in features if one.kind not in _UNLEARNT]
        if not learnt:
            raise TableError(
                "No column is left to learn from: identifiers, free texts and columns that are always the same tell "
                "nothing.",
                code="no_features",
                hint="Name the column of texts with `text=`, or bring columns of numbers and categories.",
            )
        self.table.frame = pl.DataFrame()
        nothing = pl.DataFrame([one.values.is_null() for one in learnt]).select(pl.all_horizontal(pl.all())).to_series()
        sizes = pl.repeat(0, len(self.names), dtype=pl.Int64, eager=True)
        for one in features:
            if one.values.dtype == pl.String:
                sizes += one.values.str.len_bytes().fill_null(0).cast(pl.Int64)
        kept = self._usable("empty_row", nothing, sizes)
        columns = [one.values.filter(self.usable) for one in features]
        content = write_content(self.ingestion.scratch, rows(columns), self._tick)
        described = [one.column for one in features]
        return self._finish("tabular", content, content.digests, kept, target, columns=described)

    def _usable(self, code: str, lacking: pl.Series, sizes: pl.Series) -> list[int]:
        """Indices of the rows that can be used, after those without content or with too much are left out."""
        notes = Notes(self.book, self.names)
        notes.each(code, lacking & self.usable)
        large = sizes > self.ingestion.limits.max_item_bytes
        notes.each("row_too_large", large & self.usable)
        self.usable &= ~lacking & ~large
        kept = self.usable.arg_true().to_list()
        self._require(len(kept), len(self.names))
        total = int(sizes.filter(self.usable).sum() or 0)
        if total > self.ingestion.limits.max_table_bytes:
            raise too_large("The data set", self.ingestion.limits)
        return kept

    def _require(self, usable: int, rows: int) -> None:
        if usable == 0:
            raise mostly_unreadable(rows, rows)

    def _tick(self, done: int) -> None:
        check_stop(self.ingestion.should_stop)
        self.ingestion.on_progress(0.4 + 0.4 * done / max(len(self.names), 1))

    def _finish(
        self,
        modality: Modality,
        content: Content,
        keys: Sequence[Hashable],
        kept: list[int],
        target: Target,
        **extra: Any,
    ) -> Ingested:
        """Copies, classes, splits, items; `keys` and the content's items are those of `kept`, in order."""
        try:
            return self._frozen(modality, content, keys, kept, target, **extra)
        except BaseException:
            content.path.unlink(missing_ok=True)
            raise

    def _frozen(
        self,
        modality: Modality,
        content: Content,
        keys: Sequence[Hashable],
        kept: list[int],
        target: Target,
        **extra: Any,
    ) -> Ingested:
        given = [self.given[index] for index in kept]
        replies = [target.answers[index] for index in kept]
        if modality == "tabular" and is_coarse(keys):
            self.book.add("rows_repeat", f"{len(keys) - len(set(keys)):,} of {len(keys):,} rows")
            keys = range(len(keys))
        values = target.problem == "regression"
        staying = without_copies(self.book, keys, replies, given, lambda at: self.names[kept[at]], values=values)
        self._require(len(staying), len(kept))
        answers = answers_of(target.problem, [replies[at] for at in staying], by_number=True)
        splits, source = split_up(self.ingestion, answers, [given[at] for at in staying], [keys[at] for at in staying])
        self.ingestion.on_progress(0.9)
        items = [
            Item(
                name=self.called[kept[at]],
                offset=content.offsets[at],
                length=content.lengths[at],
                size=content.lengths[at],
                split=split,
                sha256=content.digests[at],
                **fields,
            )
            for at, split, fields in zip(staying, splits, answers.fields(), strict=True)
        ]
        report = report_on(self.ingestion, answers, items, source, target=target.target, **extra)
        manifest = DatasetManifest(
            modality=modality,
            problem=target.problem,
            content_sha256=content.sha256,
            classes=answers.classes,
            columns=extra.get("columns", []),
            target=target.target,
            items=items,
        )
        self.ingestion.on_progress(1.0)
        return Ingested(manifest, report, content.path)
