"""What every ingestion shares: what it was asked, what it has found so far, and how it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.contract.datasets import DatasetManifest, DatasetReport, Fault, Reading
from core.contract.errors import JobError
from core.modality.archives import ShouldStop
from core.modality.faults import FaultBook
from core.settings import Settings


@dataclass(frozen=True)
class Ingested:
    """A usable data set. `content` is a new file to store as `manifest.content_sha256`; None: it is the upload."""

    manifest: DatasetManifest
    report: DatasetReport
    content: Path | None


class RejectedError(JobError):
    """The upload cannot be used; `report` holds all that was found.

    Codes: `no_images`, `mostly_unreadable`, `too_many_classes`, and those of `ArchiveError` and `TableError`.
    """

    code = "no_images"

    def __init__(self, error: JobError, report: DatasetReport) -> None:
        super().__init__(error.message, code=error.code, hint=error.hint, details=error.details)
        self.report = report


@dataclass
class Run:
    """One ingestion."""

    limits: Settings
    seed: int
    scratch: Path
    reading: Reading = field(default_factory=Reading)
    on_progress: Callable[[float], None] = lambda _: None
    should_stop: ShouldStop = lambda: False
    workers: int = 2
    started: float = field(default_factory=time.perf_counter)
    book: FaultBook = field(default_factory=FaultBook)
    files: int = 1

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
