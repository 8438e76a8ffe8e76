"""`/datasets`."""

import json
import time
from collections.abc import Iterator, Mapping

from graft._pages import iterate
from graft._resumable import FROM_BYTES, send_in_pieces, size_of
from graft._transport import Call, Transport
from graft._upload import OnProgress, Source, body, name_of, opened
from graft.errors import ConflictError, DatasetRejectedError, WaitTimeoutError
from graft.resources._ids import segment
from graft.types import Dataset, DatasetReport, Sample

_STORING = 600.0  # seconds the service may take to answer once it has every byte


class Datasets:
    """Upload data, see what the service found in it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        seed: int | None = None,
        metadata: Mapping[str, str] | None = None,
        modality: str | None = None,
        problem: str | None = None,
        target: str | None = None,
        text: str | None = None,
        split: str | None = None,
        resumable: bool | None = None,
        on_progress: OnProgress | None = None,
    ) -> Dataset:
        """Upload a zip or tar, a table (CSV, JSON lines, Parquet), an open binary file, bytes, or a folder.

        A folder is packed into a temporary file first (names that begin with a dot are left out). `seed` fixes the
        splits that the service makes; `metadata` are labels of your own. `target`, `text` and `split` name a table's
        columns, `modality` (`image`, `text`, `tabular`) and `problem` (`classification`, `multi_label`, `regression`)
        say what it is; all of these are found out unless given. Files above 64 MiB, or any size with
        `resumable`, are sent in pieces: the upload goes on after a broken connection or a restart of the service.
        `on_progress(sent, total)` counts bytes. The data set comes back as `validating`; `wait` for it. Raises OSError
        or ValueError where there is nothing to send.
        """
        said = {
            "name": name or name_of(source),
            "seed": None if seed is None else str(seed),
            "metadata": None if metadata is None else json.dumps(dict(metadata)),
            "modality": modality,
            "problem": problem,
            "target": target,
            "text": text,
            "split": split,
        }
        with opened(source) as file:
            if size_of(file) > FROM_BYTES if resumable is None else resumable:
                return self.get(send_in_pieces(self._transport, file, said, on_progress))
            sent = body(file, on_progress)
            call = Call("POST", "/datasets", params=said, body=sent, creates=True, read_timeout=_STORING)
            return self._transport.parse(Dataset, self._transport.send(call))

    def list(self, *, state: str | None = None, limit: int | None = None) -> Iterator[Dataset]:
        """Your data sets, newest first; pages are fetched as you go."""
        return iterate(self._transport, Dataset, "/datasets", limit=limit, state=state)

    def get(self, dataset: str | Dataset) -> Dataset:
        """One data set."""
        return self._transport.get(Dataset, f"/datasets/{segment(dataset)}")

    def wait(self, dataset: str | Dataset, *, timeout: float | None = None) -> Dataset:
        """Wait until it is `ready`; `DatasetRejectedError` lists the faults if it never will be.

        `timeout` in seconds raises `WaitTimeoutError`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.1
        while True:
            found = self.get(dataset)
            if found.state == "ready":
                return found
            if found.state == "rejected":
                raise DatasetRejectedError(found, self._report_if_any(found))
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeoutError(
                    f"Data set {found.id} is still {found.state}.", hint="Checking goes on; is a worker running?"
                )
            self._transport.retries.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _report_if_any(self, dataset: Dataset) -> DatasetReport | None:
        try:
            return self.report(dataset)
        except ConflictError:
            return None

    def report(self, dataset: str | Dataset) -> DatasetReport:
        """Every fault, class and size that ingestion found."""
        return self._transport.get(DatasetReport, f"/datasets/{segment(dataset)}/report")

    def samples(
        self, dataset: str | Dataset, *, split: str | None = None, label: str | None = None, limit: int | None = None
    ) -> Iterator[Sample]:
        """Items of a ready data set, in its own order; pages are fetched as you go."""
        path = f"/datasets/{segment(dataset)}/samples"
        return iterate(self._transport, Sample, path, limit=limit, split=split, label=label)

    def thumbnail(self, dataset: str | Dataset, index: int, *, size: int | None = None) -> bytes:
        """An image as a small JPEG, at most `size` pixels wide and high; a text in UTF-8; a row as JSON."""
        path = f"/datasets/{segment(dataset)}/samples/{index}"
        return self._transport.send(Call("GET", path, params={"size": size})).content

    def delete(self, dataset: str | Dataset) -> None:
        """Delete it; `ConflictError` while a job needs it."""
        self._transport.send(Call("DELETE", f"/datasets/{segment(dataset)}"))
