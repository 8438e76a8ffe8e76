"""An upload -> a frozen manifest and a report of all faults at once."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.contract.datasets import SPLITS, ClassCount, DatasetManifest, DatasetReport, Fault, Item, Split
from core.contract.errors import JobError
from core.modality.archives import Entry, Listing, ShouldStop, check_stop, list_archive
from core.modality.errors import ArchiveError
from core.modality.faults import FaultBook
from core.modality.layout import Layout, has_image_suffix, is_clutter, read_layout
from core.modality.splits import SplitSource, assign_splits, keeps_given
from core.modality.verify import Checked, Unusable, check_images, sniff
from core.settings import Settings

_HELD_OUT_FIRST: tuple[Split, ...] = ("test", "validation", "train")


@dataclass(frozen=True)
class Ingested:
    """A usable data set. `content` is a new file to store as `manifest.content_sha256`; None: it is the upload."""

    manifest: DatasetManifest
    report: DatasetReport
    content: Path | None


class RejectedError(JobError):
    """The upload cannot be used; `report` holds all that was found.

    Codes: `no_images`, `mostly_unreadable`, `too_many_classes`, and those of `ArchiveError`.
    """

    code = "no_images"

    def __init__(self, error: JobError, report: DatasetReport) -> None:
        super().__init__(error.message, code=error.code, hint=error.hint, details=error.details)
        self.report = report


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An image that decodes, with the place its folders give it."""

    entry: Entry
    checked: Checked
    split: Split | None
    label: str | None


def ingest(
    upload: Path,
    upload_sha256: str,
    *,
    limits: Settings,
    seed: int,
    scratch: Path,
    on_progress: Callable[[float], None] | None = None,
    should_stop: ShouldStop | None = None,
    workers: int = 2,
) -> Ingested:
    """Check an uploaded archive of images and freeze its manifest.

    `on_progress` is told the share done, in [0, 1], some times a second; what it raises ends the work. A compressed
    tar is unpacked to a new file in the folder `scratch`, which is gone after an error.

    Raises `RejectedError` with a report; `StoppedError` once `should_stop` says so; `InsufficientStorageError`.
    """
    run = _Run(limits, seed, on_progress or (lambda _: None), should_stop or (lambda: False), workers)
    try:
        listing = list_archive(upload, limits=limits, scratch=scratch, should_stop=run.should_stop)
    except ArchiveError as error:
        raise run.rejected(error) from error
    content = listing.content if listing.content_sha256 else None
    try:
        manifest, report = run.read(listing, listing.content_sha256 or upload_sha256)
    except BaseException:
        if content is not None:
            content.unlink(missing_ok=True)
        raise
    return Ingested(manifest, report, content)


class _Run:
    """One ingestion: what it was asked, and what it has found so far."""

    def __init__(
        self,
        limits: Settings,
        seed: int,
        on_progress: Callable[[float], None],
        should_stop: ShouldStop,
        workers: int,
    ) -> None:
        self.limits = limits
        self.seed = seed
        self.on_progress = on_progress
        self.should_stop = should_stop
        self.workers = workers
        self.started = time.perf_counter()
        self.book = FaultBook()
        self.files = 0

    def read(self, listing: Listing, content_sha256: str) -> tuple[DatasetManifest, DatasetReport]:
        """From the archive's list to manifest and report."""
        check_stop(self.should_stop)
        self.on_progress(0.02)
        self.files = len(listing.entries) + len(listing.refused)
        for refused in listing.refused:
            self.book.add(refused.code, refused.name)
        images, others = self._sort_out(listing)
        folders = {folder for folder in listing.folders if not is_clutter(folder)}
        folders |= {entry.name.rpartition("/")[0] for entry in others} - {""}
        layout = read_layout([entry.name for entry in images], folders)
        self._note_layout(layout)
        candidates = self._decode(listing.content, images, layout)
        items, classes, source = self._freeze(self._without_copies(candidates))
        manifest = DatasetManifest(modality="image", content_sha256=content_sha256, classes=classes, items=items)
        report = self._report(manifest, source, candidates)
        self.on_progress(1.0)
        return manifest, report

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
        for entry in others:
            self.book.add("not_an_image", entry.name)
        names = {entry.name for entry in others}
        return [entry for entry in files if entry.name not in names], others

    def _note_layout(self, layout: Layout) -> None:
        for code, example in layout.faults:
            self.book.add(code, example)
        for name in layout.empty_classes:
            self.book.add("empty_class", name)
        classes = len({placed.label for placed in layout.placed})
        if classes > self.limits.max_classes:
            raise self.rejected(
                JobError(
                    f"The upload has {classes:,} classes; the limit is {self.limits.max_classes:,}.",
                    code="too_many_classes",
                    hint="Each folder of images is a class: check that folders are not items. Or raise "
                    "GRAFT_MAX_CLASSES.",
                    details={"classes": classes, "limit": self.limits.max_classes},
                )
            )

    def _decode(self, content: Path, images: Sequence[Entry], layout: Layout) -> list[_Candidate]:
        """Decode every image that has a place; those that can be used, ordered by path without the split."""
        results = check_images(
            content,
            [images[placed.index] for placed in layout.placed],
            max_pixels=self.limits.max_pixels,
            workers=self.workers,
            on_progress=lambda share: self.on_progress(0.02 + 0.96 * share),
            should_stop=self.should_stop,
        )
        candidates = []
        for placed, result in zip(layout.placed, results, strict=True):
            entry = images[placed.index]
            if isinstance(result, Unusable):
                self.book.add(result.code, entry.name)
            else:
                candidates.append(_Candidate(entry, result, placed.split, placed.label))
        self._require_images(len(candidates), len(results))
        missing = {placed.label for placed in layout.placed} - {candidate.label for candidate in candidates}
        for name in sorted(name for name in missing if name is not None):
            self.book.add("empty_class", name)
        return sorted(candidates, key=_order)

    def _require_images(self, usable: int, images: int) -> None:
        if images > 0 and usable < images / 2:
            raise self.rejected(
                JobError(
                    f"{images - usable:,} of {images:,} images cannot be read.",
                    code="mostly_unreadable",
                    hint="The report says which and why. Something went wrong where the archive was made.",
                    details={"images": images, "unreadable": images - usable},
                )
            )
        if usable == 0:
            raise self.rejected(
                JobError(
                    "The archive holds no image that can be used.",
                    code="no_images",
                    hint="Put JPEG or PNG files into class folders, one folder per class, and upload them as one zip.",
                )
            )

    def _without_copies(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Leave out copies that would leak between splits or contradict each other; note the others."""
        keep_splits = keeps_given({candidate.split for candidate in candidates})
        groups: dict[bytes, list[_Candidate]] = defaultdict(list)
        for candidate in candidates:
            groups[candidate.checked.pixels].append(candidate)
        dropped: set[str] = set()
        for group in groups.values():
            if len(group) == 1:
                continue
            if len({candidate.label for candidate in group}) > 1:
                self.book.add("conflicting_labels", " = ".join(candidate.entry.name for candidate in group[:3]))
                dropped |= {candidate.entry.name for candidate in group}
                continue
            splits = {candidate.split for candidate in group if keep_splits}
            held_out = next((split for split in _HELD_OUT_FIRST if split in splits), None)
            kept = [candidate for candidate in group if not keep_splits or candidate.split == held_out]
            leaking = [candidate for candidate in group if keep_splits and candidate.split != held_out]
            for copy in leaking:
                self.book.add("duplicate_across_splits", f"{copy.entry.name} = {kept[0].entry.name}")
            for copy in kept[1:]:
                self.book.add("duplicate_in_split", f"{copy.entry.name} = {kept[0].entry.name}")
            dropped |= {candidate.entry.name for candidate in leaking}
        rest = [candidate for candidate in candidates if candidate.entry.name not in dropped]
        if not rest:
            self._require_images(0, 0)
        return rest

    def _freeze(self, candidates: list[_Candidate]) -> tuple[list[Item], list[str], SplitSource]:
        classes = sorted({candidate.label for candidate in candidates if candidate.label is not None})
        index = {name: number for number, name in enumerate(classes)}
        labels = [None if candidate.label is None else index[candidate.label] for candidate in candidates]
        given = [candidate.split for candidate in candidates]
        pixels = [candidate.checked.pixels for candidate in candidates]
        splits, source = assign_splits(labels, given, pixels, self.seed)
        if source == "made" and any(given):
            names = ", ".join(sorted({split for split in given if split}))
            self.book.add("given_splits_ignored", f"only {names} was given")
        items = [
            Item(
                name=candidate.entry.name,
                offset=candidate.entry.offset,
                length=candidate.entry.length,
                size=candidate.entry.size,
                deflated=candidate.entry.deflated,
                label=label,
                split=split,
                sha256=candidate.checked.sha256,
            )
            for candidate, label, split in zip(candidates, labels, splits, strict=True)
        ]
        return items, classes, source

    def _report(
        self, manifest: DatasetManifest, source: SplitSource, candidates: Sequence[_Candidate]
    ) -> DatasetReport:
        classes = _count_classes(manifest)
        splits = Counter(item.split for item in manifest.items)
        self._note_classes(classes, splits)
        return DatasetReport(
            faults=self.book.faults(),
            files=self.files,
            items=len(manifest.items),
            labelled=manifest.labelled,
            classes=classes,
            splits={split: splits[split] for split in SPLITS},
            split_source=source,
            seed=self.seed,
            width=_spread([candidate.checked.width for candidate in candidates]),
            height=_spread([candidate.checked.height for candidate in candidates]),
            seconds=self.seconds,
        )

    def _note_classes(self, classes: Sequence[ClassCount], splits: Counter[Split]) -> None:
        for row in classes:
            if row.total < 3:
                self.book.add("class_too_small", f"{row.name}: {row.total}")
            if row.train == 0:
                self.book.add("class_without_training", row.name)
        if not classes:
            self.book.add("unlabelled", f"{splits.total()} images")
        if len(classes) == 1:
            self.book.add("single_class", classes[0].name)
        elif classes:
            small, large = (pick(classes, key=lambda row: row.total) for pick in (min, max))
            if large.total > 5 * small.total:
                self.book.add("imbalance", f"{large.name}: {large.total}, {small.name}: {small.total}")
        for split in SPLITS:
            if splits[split] == 0:
                self.book.add("empty_split", split)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self.started, 3)

    def rejected(self, error: JobError) -> RejectedError:
        """The error with a report of what was found until then."""
        fault = Fault(code=error.code, severity="error", count=1, message=error.message, remedy=error.hint or "")
        report = DatasetReport(
            faults=[fault, *self.book.faults()],
            files=self.files,
            items=0,
            labelled=False,
            split_source="made",
            seed=self.seed,
            seconds=self.seconds,
        )
        return RejectedError(error, report)


def _order(candidate: _Candidate) -> tuple[str, str, str]:
    """By class and file name, so that moving an item to another split does not move it in the manifest."""
    return candidate.label or "", candidate.entry.name.rpartition("/")[2], candidate.entry.name


def _count_classes(manifest: DatasetManifest) -> list[ClassCount]:
    counts = Counter((item.label, item.split) for item in manifest.items)
    return [
        ClassCount(name=name, **{split: counts[index, split] for split in SPLITS})
        for index, name in enumerate(manifest.classes)
    ]


def _spread(sides: Sequence[int]) -> tuple[int, int, int]:
    return min(sides), int(statistics.median(sides)), max(sides)
