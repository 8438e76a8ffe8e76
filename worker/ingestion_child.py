"""What the child process of an ingestion does: inspect the upload, put manifest and report into the work folder."""

import os
from pathlib import Path
from typing import Any

from core.contract.datasets import DatasetReport, Reading
from core.settings import Settings
from worker.child import Link
from worker.engine.door import CancelledError

MANIFEST, REPORT = "manifest.json", "report.json"


def run(  # noqa: PLR0917 -- they come down a pipe, which knows no names
    link: Link, upload: Path, sha256: str, seed: int, settings: Settings, folder: Path, reading: Reading
) -> dict[str, Any]:
    """Ingest one upload; the answer says whether there is a content file of its own beside the upload."""
    from core.modality.errors import StoppedError
    from core.modality.ingest import RejectedError, ingest  # here: the parent has no use for NumPy and Pillow

    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        found = ingest(
            upload,
            sha256,
            limits=settings,
            seed=seed,
            scratch=scratch,
            reading=reading,
            on_progress=lambda _share: link.alive(),
            should_stop=lambda: link.wish() in ("cancel", "suspend"),
        )
    except StoppedError as error:
        raise CancelledError from error
    except RejectedError as error:
        if error.report is not None:
            error.report_path = str(_write(folder / REPORT, error.report.model_dump_json()))  # type: ignore[attr-defined]
        raise
    _write(folder / MANIFEST, found.manifest.model_dump_json())
    _write(folder / REPORT, found.report.model_dump_json())
    return {"content": None if found.content is None else str(_synced(found.content))}


def read_report(folder: Path) -> DatasetReport:
    """The report that the child has written."""
    return DatasetReport.model_validate_json((folder / REPORT).read_bytes())


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return _synced(path)


def _synced(path: Path) -> Path:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path
