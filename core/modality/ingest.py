"""An upload -> a frozen manifest and a report of all faults at once, whatever it is: images, texts or rows."""

from collections.abc import Callable
from pathlib import Path

from core.contract.datasets import Reading
from core.modality.archives import Listing, ShouldStop, list_archive
from core.modality.errors import ArchiveError
from core.modality.images_ingest import ImagesIngest
from core.modality.ingestion import Ingested, RejectedError, Run
from core.modality.layout import has_image_suffix, is_clutter
from core.modality.table_errors import TableError, wrong_reading
from core.modality.table_source import find_tables, format_of, head_of
from core.modality.tars import is_tar
from core.modality.verify import sniff
from core.modality.zips import is_zip
from core.settings import Settings

__all__ = ["Ingested", "RejectedError", "ingest"]


def ingest(
    upload: Path,
    upload_sha256: str,
    *,
    limits: Settings,
    seed: int,
    scratch: Path,
    reading: Reading | None = None,
    on_progress: Callable[[float], None] | None = None,
    should_stop: ShouldStop | None = None,
    workers: int = 2,
) -> Ingested:
    """Check an upload and freeze its manifest: an archive of images, a table, or an archive of tables.

    `reading` says what cannot be seen in the data. `on_progress` is told the share done, in [0, 1], some times a
    second; what it raises ends the work. What is unpacked, and the items of a table, become new files in the folder
    `scratch`; after an error they are gone.

    Raises `RejectedError` with a report; `StoppedError` once `should_stop` says so; `InsufficientStorageError`.
    """
    run = Run(limits, seed, scratch, reading or Reading(), workers=workers)
    run.on_progress = on_progress or run.on_progress
    run.should_stop = should_stop or run.should_stop
    try:
        if _is_table(upload):
            return _ingest_table(run, upload)
        return _ingest_archive(run, upload, upload_sha256)
    except (ArchiveError, TableError) as error:
        raise run.rejected(error) from error


def _ingest_table(run: Run, table: Path) -> Ingested:
    from core.modality.tables_ingest import ingest_table  # brings polars: not for images, never before a process forks

    return ingest_table(run, table)


def _is_table(upload: Path) -> bool:
    """Whether the upload is a table itself."""
    head = head_of(upload)
    with upload.open("rb") as file:
        return not is_zip(file) and not is_tar(head[:512]) and format_of(head) is not None


def _ingest_archive(run: Run, upload: Path, upload_sha256: str) -> Ingested:
    """An archive, or a packed table, which looks like a packed archive at first."""
    listing = list_archive(upload, limits=run.limits, scratch=run.scratch, should_stop=run.should_stop)
    content = listing.content if listing.content_sha256 else None
    done = False
    try:
        if not listing.is_archive:
            return _ingest_table(run, listing.content)
        run.files = len(listing.entries) + len(listing.refused)
        for refused in listing.refused:
            run.book.add(refused.code, refused.name)
        if _holds_tables(listing):
            from core.modality.tables_ingest import ingest_archive

            return ingest_archive(run, listing)
        if run.reading.modality not in (None, "image"):
            hint = "Upload a CSV, JSON lines or Parquet file, or leave out `modality`."
            raise wrong_reading(f"The archive holds no table of {run.reading.modality} data.", hint)
        manifest, report = ImagesIngest(run).read(listing, listing.content_sha256 or upload_sha256)
        done = True
        return Ingested(manifest, report, content)
    finally:
        if content is not None and not done:
            content.unlink(missing_ok=True)


def _holds_tables(listing: Listing) -> bool:
    """Whether the archive is one of tables: it has some, and no image."""
    if not find_tables(listing):
        return False
    files = [entry for entry in listing.entries if not is_clutter(entry.name)]
    return not any(has_image_suffix(entry.name) for entry in files) and not any(sniff(listing.content, files))
