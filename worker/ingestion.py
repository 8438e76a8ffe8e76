"""From a claimed upload to a ready or rejected data set: a child inspects, the parent stores what it found."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import logs
from core.contract.datasets import DatasetManifest, DatasetReport
from core.contract.errors import ErrorBody, JobError
from core.contract.jobs import EventKind
from core.settings import Settings
from core.store import datasets, garbage
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import failures, ingestion_child, spans
from worker.children import Asked, Child, Ending, Limits, supervise
from worker.folders import sync_and_hash, work_folder
from worker.leases import Lease, ShuttingDownError, persist

log = logs.get_logger(__name__)
LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Ingester:
    """Ingests uploads, one at a time."""

    store: Store
    settings: Settings
    stopping: Callable[[], bool]
    work: Callable[..., dict[str, Any]] = ingestion_child.run

    def run_next(self, owner: str) -> bool:
        """Claim a data set and bring it to `ready` or `rejected`; False if there is none."""
        with self.store.db.write() as tx:
            claim = datasets.claim_next(tx, owner, self.settings.lease_seconds)
        if claim is None:
            return False
        with logs.bind(dataset=claim.fence.id, request_id=claim.request_id), spans.ingest(claim):
            log.info("data set validating", attempt=claim.fence.attempt)
            _Run(self, claim).run()
        return True


class _Watch:
    """Keeps the lease on a data set while its child works (`worker.children.Watch`)."""

    def __init__(self, ingester: Ingester, claim: datasets.DatasetClaim) -> None:
        self._ingester = ingester
        self._claim = claim
        self._lease = Lease(ingester.settings.lease_seconds)
        self._look_at = 0.0

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Ingestion reports nothing on its way."""

    def tick(self) -> Asked:
        """Renew the lease; the end of the worker or of the data set ends the child at once."""
        if self._ingester.stopping():
            raise ShuttingDownError
        if self._lease.due:
            self._lease.attempt(self._beat)
        elif time.monotonic() >= self._look_at:
            self._lease.attempt(self._look)
        return "go_on"

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_SECONDS
        with self._ingester.store.db.read() as tx:
            if not datasets.is_validating(tx, self._claim.fence):
                raise LostLeaseError("the data set was deleted, or is another worker's")

    def _beat(self) -> None:
        with self._ingester.store.db.write() as tx:
            datasets.heartbeat(tx, self._claim.fence, self._lease.seconds)
        self._lease.renewed()


class _Run:
    """One attempt at one data set."""

    def __init__(self, ingester: Ingester, claim: datasets.DatasetClaim) -> None:
        self.ingester = ingester
        self.store = ingester.store
        self.settings = ingester.settings
        self.claim = claim
        self.fence = claim.fence
        self.began = time.monotonic()

    def run(self) -> None:
        """Bring it to an end, whatever happens; a data set that is not ready leaves no blob of its own."""
        try:
            self._check_attempts()
            if self._reuse():
                return
            with work_folder(self.settings.root, self.fence) as folder:
                ending = self._follow(folder)
                if ending.result is not None:
                    self._publish(ending, ending.result["content"], folder)
                    return
                report = None if ending.report is None else ingestion_child.read_report(folder)
            if ending.again and self.claim.lost + 1 < self.settings.max_attempts:
                self._hand_back("process lost, trying again", lost=True)
                return
            # Only now, without the folder: on a full disk its files would keep this very write from going through.
            self._reject(ending.error or failures.of_death(None, ending.peak_bytes, ending.peak_bytes), report)
        except ShuttingDownError:
            self._hand_back("handed back")
        except LostLeaseError as error:
            log.warning("data set lost to another worker, nothing written", dataset=self.fence.id, reason=str(error))
        except Exception as error:
            if not isinstance(error, JobError):
                log.exception("unexpected error", dataset=self.fence.id)
            self._reject(failures.of_exception(error), None)

    def _check_attempts(self) -> None:
        lost = self.claim.lost
        if lost >= self.settings.max_attempts:
            raise JobError(
                f"The worker was lost {lost} times while it looked at this upload.",
                code="worker_lost",
                hint="Look for out-of-memory kills in the machine's log; then upload it again.",
            )

    def _reuse(self) -> bool:
        """The same bytes with the same seed were ingested before in the same way: take what was found then."""
        with self.store.db.write(blobs=True) as tx:
            twin = datasets.twin(tx, self.claim.upload_sha256, self.claim.seed, self.claim.reading)
            if twin is None or not self.store.blobs.exists(twin.manifest_sha256):
                return False
            text = self.store.blob(twin.manifest_sha256).read_bytes()
            manifest = DatasetManifest.model_validate_json(text)
            if not self.store.blobs.exists(manifest.content_sha256):
                return False
            datasets.mark_ready(tx, self.fence, manifest, twin.manifest_sha256, twin.report)
        self._say("ready", reused=True)
        return True

    def _follow(self, folder: Path) -> Ending:
        upload = self.store.blob(self.claim.upload_sha256)
        if not upload.is_file():
            raise JobError("The stored bytes of the upload are gone.", code="blob_missing", hint="Upload it again.")
        claim = self.claim
        arguments = (upload, claim.upload_sha256, claim.seed, self.settings, folder, claim.reading)
        limits = Limits(silence=self.settings.stall_seconds)
        return supervise(Child(self.ingester.work, self.fence.id, arguments), _Watch(self.ingester, self.claim), limits)

    def _publish(self, ending: Ending, content: str | None, folder: Path) -> None:
        path = folder / ingestion_child.MANIFEST
        manifest = DatasetManifest.model_validate_json(path.read_bytes())
        manifest_sha256 = sync_and_hash(path)
        report = ingestion_child.read_report(folder)

        def publish() -> None:
            with self.store.db.write(blobs=True) as tx:
                datasets.heartbeat(tx, self.fence, self.settings.lease_seconds)
                if content is not None:
                    self.store.blobs.adopt(Path(content), manifest.content_sha256)
                self.store.blobs.adopt(path, manifest_sha256)
                datasets.mark_ready(tx, self.fence, manifest, manifest_sha256, report)

        persist(publish, self.settings.lease_seconds)
        self._say("ready", items=len(manifest.items), peak_megabytes=ending.peak_bytes >> 20)

    def _reject(self, error: ErrorBody, report: DatasetReport | None) -> None:
        def reject() -> None:
            with self.store.db.write() as tx:
                datasets.mark_rejected(tx, self.fence, error, report)

        try:
            persist(reject, self.settings.lease_seconds)
        except LostLeaseError:
            log.warning("data set lost to another worker, nothing written", dataset=self.fence.id)
            return
        self._say("rejected", code=error.code)
        self._drop_upload()

    def _drop_upload(self) -> None:
        """After the row has let go of the upload, remove its bytes unless another data set needs them."""
        garbage.drop(self.store, [self.claim.upload_sha256])

    def _hand_back(self, why: str, *, lost: bool = False) -> None:
        def release() -> None:
            with self.store.db.write() as tx:
                datasets.release(tx, self.fence, lost=lost)

        persist(release, 1.0)
        self._say(why)

    def _say(self, what: str, **values: Any) -> None:
        seconds = round(time.monotonic() - self.began, 3)
        spans.ingested(what, values.get("code"))
        log.info(f"data set {what}", dataset=self.fence.id, seconds=seconds, **values)
