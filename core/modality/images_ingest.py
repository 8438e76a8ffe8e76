"""An archive of images -> manifest and report; labels by class folders, or by a table that names the files."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.contract.datasets import DatasetManifest, DatasetReport, Item, Split
from core.contract.errors import JobError
from core.modality.answers import Answer, Answers, answers_of
from core.modality.archives import Entry, Listing, check_stop
from core.modality.copies import without_copies
from core.modality.freezing import report_on, split_up
from core.modality.ingestion import Run
from core.modality.layout import Layout, has_image_suffix, is_clutter, read_layout
from core.modality.named import Named, is_metadata
from core.modality.splits import SplitSource
from core.modality.table_errors import wrong_reading
from core.modality.verify import Checked, Unusable, check_images, sniff


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An image that decodes, with the place and the label that folders or a table give it."""

    entry: Entry
    checked: Checked
    split: Split | None
    answer: Answer


class ImagesIngest:
    """One archive of images."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.book = run.book

    def read(self, listing: Listing, content_sha256: str) -> tuple[DatasetManifest, DatasetReport]:
        """From the archive's list to manifest and report."""
        check_stop(self.run.should_stop)
        self.run.on_progress(0.02)
        images, others = self._sort_out(listing)
        named = self._name(listing.content, images, others)
        by_table = named is not None
        named = named or self._by_folders(listing, images, others)
        candidates = self._decode(listing.content, images, named)
        kept = self._without_copies(candidates, named.problem)
        answers = answers_of(named.problem, [candidate.answer for candidate in kept], by_number=by_table)
        items, source = self._items(kept, answers)
        manifest = DatasetManifest(
            modality="image",
            problem=named.problem,
            content_sha256=content_sha256,
            classes=answers.classes,
            target=named.target,
            items=items,
        )
        width, height = (_spread([getattr(one.checked, side) for one in candidates]) for side in ("width", "height"))
        report = report_on(self.run, answers, items, source, target=named.target, width=width, height=height)
        self.run.on_progress(1.0)
        return manifest, report

    def _name(self, content: Path, images: Sequence[Entry], others: Sequence[Entry]) -> Named | None:
        """What a table of the archive says of the images; None: their folders say it."""
        tables = [entry for entry in others if is_metadata(entry.name)]
        named = None
        if tables:
            from core.modality.images_table import name_images  # polars must not be imported before a process forks

            named = name_images(self.run, content, images, tables)
        used = tables if named is not None else []
        for entry in others:
            if entry not in used:
                self.book.add("not_an_image", entry.name)
        asked = self.run.reading
        if named is None and (asked.target or asked.split or asked.problem not in (None, "classification")):
            raise self.run.rejected(
                wrong_reading(
                    "The archive holds images in folders, and no table that names their target.",
                    "Put a metadata.csv with the columns `file_name` and `label` at the archive's root, or leave out "
                    "`target`, `split` and `problem`.",
                )
            )
        return named

    def _sort_out(self, listing: Listing) -> tuple[list[Entry], list[Entry]]:
        """The images of the archive, by path, and the files that are none."""
        last = {entry.name: entry for entry in listing.entries}
        seen: set[str] = set()
        for entry in listing.entries:
            if entry.name in seen:
                self.book.add("duplicate_name", entry.name)
            seen.add(entry.name)
        files = [last[name] for name in sorted(last)]
        for entry in files:
            if is_clutter(entry.name):
                self.book.add("ignored_file", entry.name)
        files = [entry for entry in files if not is_clutter(entry.name)]
        unknown = [entry for entry in files if not has_image_suffix(entry.name)]
        found = zip(unknown, sniff(listing.content, unknown), strict=True)
        others = [entry for entry, is_image in found if not is_image]
        names = {entry.name for entry in others}
        return [entry for entry in files if entry.name not in names], others

    def _by_folders(self, listing: Listing, images: Sequence[Entry], others: Sequence[Entry]) -> Named:
        folders = {folder for folder in listing.folders if not is_clutter(folder)}
        folders |= {entry.name.rpartition("/")[0] for entry in others} - {""}
        layout = read_layout([entry.name for entry in images], folders)
        self._note_layout(layout)
        placed = layout.placed
        return Named(
            "classification",
            None,
            [place.index for place in placed],
            [place.label for place in placed],
            [place.split for place in placed],
        )

    def _note_layout(self, layout: Layout) -> None:
        for code, example in layout.faults:
            self.book.add(code, example)
        for name in layout.empty_classes:
            self.book.add("empty_class", name)
        classes = len({placed.label for placed in layout.placed} - {None})
        if classes > self.run.limits.max_classes:
            raise self.run.rejected(
                JobError(
                    f"The upload has {classes:,} classes; the limit is {self.run.limits.max_classes:,}.",
                    code="too_many_classes",
                    hint="Each folder of images is a class: check that folders are not items. Or raise "
                    "GRAFT_MAX_CLASSES.",
                    details={"classes": classes, "limit": self.run.limits.max_classes},
                )
            )

    def _decode(self, content: Path, images: Sequence[Entry], named: Named) -> list[_Candidate]:
        """Decode every image that has a place; those that can be used, ordered by path without the split."""
        results = check_images(
            content,
            [images[index] for index in named.indices],
            max_pixels=self.run.limits.max_pixels,
            workers=self.run.workers,
            on_progress=lambda share: self.run.on_progress(0.02 + 0.96 * share),
            should_stop=self.run.should_stop,
        )
        candidates = []
        for index, answer, split, result in zip(named.indices, named.answers, named.splits, results, strict=True):
            if isinstance(result, Unusable):
                self.book.add(result.code, images[index].name)
            else:
                candidates.append(_Candidate(images[index], result, split, answer))
        self._require_images(len(candidates), len(results))
        missing = {a for a in named.answers if isinstance(a, str)} - {candidate.answer for candidate in candidates}
        for name in sorted(missing):
            self.book.add("empty_class", name)
        return sorted(candidates, key=_order)

    def _require_images(self, usable: int, images: int) -> None:
        if images > 0 and usable < images / 2:
            raise self.run.rejected(
                JobError(
                    f"{images - usable:,} of {images:,} images cannot be read.",
                    code="mostly_unreadable",
                    hint="The report says which and why. Something went wrong where the archive was made.",
                    details={"images": images, "unreadable": images - usable},
                )
            )
        if usable == 0:
            raise self.run.rejected(
                JobError(
                    "The archive holds no image that can be used.",
                    code="no_images",
                    hint="Put JPEG or PNG files into class folders, one folder per class, and upload them as one zip.",
                )
            )

    def _without_copies(self, candidates: list[_Candidate], problem: str) -> list[_Candidate]:
        """Leave out copies that would leak between splits or contradict each other; note the others."""
        kept = without_copies(
            self.book,
            [candidate.checked.pixels for candidate in candidates],
            [candidate.answer for candidate in candidates],
            [candidate.split for candidate in candidates],
            lambda index: candidates[index].entry.name,
            values=problem == "regression",
        )
        if not kept:
            self._require_images(0, 0)
        return [candidates[index] for index in kept]

    def _items(self, candidates: list[_Candidate], answers: Answers) -> tuple[list[Item], SplitSource]:
        given = [candidate.split for candidate in candidates]
        pixels = [candidate.checked.pixels for candidate in candidates]
        splits, source = split_up(self.run, answers, given, pixels)
        items = [
            Item(
                name=candidate.entry.name,
                offset=candidate.entry.offset,
                length=candidate.entry.length,
                size=candidate.entry.size,
                deflated=candidate.entry.deflated,
                split=split,
                sha256=candidate.checked.sha256,
                **fields,
            )
            for candidate, split, fields in zip(candidates, splits, answers.fields(), strict=True)
        ]
        return items, source


def _order(candidate: _Candidate) -> tuple[str, str, str]:
    """By class and file name, so that moving an item to another split does not move it in the manifest."""
    label = candidate.answer if isinstance(candidate.answer, str) else ""
    return label, candidate.entry.name.rpartition("/")[2], candidate.entry.name


def _spread(sides: Sequence[int]) -> tuple[int, int, int]:
    return min(sides), int(statistics.median(sides)), max(sides)
