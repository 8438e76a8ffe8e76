"""From an uploaded model to one of ours, or to a rejection: a child checks and exports, the parent stores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import logs
from core.bundle import members
from core.contract.base import new_id
from core.contract.errors import ErrorBody, JobError
from core.contract.jobs import EventKind
from core.contract.models import Model, ModelManifest
from core.settings import Settings
from core.store import garbage, imports
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import failures, importing_child
from worker.children import Asked, Child, Ending, Limits, supervise
from worker.engine.door import Places
from worker.engine.importing import ImportSpec
from worker.folders import sync_and_hash, work_folder
from worker.leases import Lease, ShuttingDownError, persist

log = logs.get_logger(__name__)
MAX_SECONDS = 3600  # an import takes seconds to minutes; one that takes an hour never ends


@dataclass(frozen=True)
class ModelImporter:
    """Checks uploaded models, one at a time."""

    store: Store
    settings: Settings
    stopping: Callable[[], bool]
    work: Callable[..., dict[str, Any]] = importing_child.run

    def run_next(self, owner: str) -> bool:
        """Claim an import and bring it to `ready` or `rejected`; False if there is none."""
        with self.store.db.write() as tx:
            claim = imports.claim_next(tx, owner, self.settings.lease_seconds)
        if claim is None:
            return False
        with logs.bind(import_id=claim.fence.id, request_id=claim.request_id):
            log.info("import validating", attempt=claim.fence.attempt)
            _Run(self, claim).run()
        return True


class _Watch:
    """Keeps the lease on an import while its child works (`worker.children.Watch`)."""

    def __init__(self, importer: ModelImporter, claim: imports.ImportClaim) -> None:
        self._importer = importer
        self._claim = claim
        self._lease = Lease(importer.settings.lease_seconds)

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """An import reports nothing on its way."""

    def tick(self) -> Asked:
        """Renew the lease; one that was deleted is lost, which ends the child."""
        if self._importer.stopping():
            raise ShuttingDownError
        if self._lease.due:
            self._lease.attempt(self._beat)
        return "go_on"

    def _beat(self) -> None:
        with self._importer.store.db.write() as tx:
            imports.heartbeat(tx, self._claim.fence, self._lease.seconds)
        self._lease.renewed()


class _Run:
    """One attempt at one import."""

    def __init__(self, importer: ModelImporter, claim: imports.ImportClaim) -> None:
        self.importer = importer
        self.store = importer.store
        self.settings = importer.settings
        self.claim = claim
        self.fence = claim.fence
        self.began = time.monotonic()

    def run(self) -> None:
        """Bring it to an end, whatever happens; a rejected import leaves no blob."""
        try:
            self._check_attempts()
            with work_folder(self.settings.root, self.fence) as folder:
                ending = self._follow(folder)
                if ending.result is not None:
                    self._publish(ending.result)
                    return
            self._give_up(ending)
        except ShuttingDownError:
            self._hand_back("handed back")
        except LostLeaseError as error:
            log.warning("import lost or deleted, nothing written", reason=str(error))
        except Exception as error:
            if not isinstance(error, JobError):
                log.exception("unexpected error")
            self._reject(failures.of_exception(error))

    def _check_attempts(self) -> None:
        lost = self.claim.lost
        if lost >= self.settings.max_attempts:
            raise JobError(
                f"The worker was lost {lost} times while it checked this upload.",
                code="worker_lost",
                hint="Look for out-of-memory kills in the machine's log; then upload it again.",
            )

    def _follow(self, folder: Path) -> Ending:
        upload = self.store.blob(self.claim.upload_sha256)
        if not upload.is_file():
            raise JobError("The stored bytes of the upload are gone.", code="blob_missing", hint="Upload it again.")
        arguments = (upload, self._spec(), self._places(folder))
        watch = _Watch(self.importer, self.claim)
        return supervise(Child(self.importer.work, self.fence.id, arguments), watch, Limits(budget=MAX_SECONDS))

    def _spec(self) -> ImportSpec:
        claim = self.claim
        return ImportSpec(
            model_id=new_id("mdl"),
            name=claim.name,
            sha256=claim.upload_sha256,
            base_model=claim.base_model,
            classes=claim.classes,
            max_classes=self.settings.max_classes,
        )

    def _places(self, folder: Path) -> Places:
        cache = self.settings.root / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        return Places(folder, cache, cache_bytes=self.settings.cache_bytes, device="cpu", threads=self.settings.threads)

    def _publish(self, result: dict[str, Any]) -> None:
        bundle = Path(result["bundle"])
        model = _model(ModelManifest.model_validate(result["manifest"]), bundle)

        def publish() -> None:
            with self.store.db.write(blobs=True) as tx:
                imports.heartbeat(tx, self.fence, self.settings.lease_seconds)
                self.store.blobs.adopt(bundle, model.sha256)
                imports.mark_ready(tx, self.fence, self.claim.tenant, model)

        persist(publish, self.settings.lease_seconds)
        self._say("ready", model=model.id)
        self._drop_upload()

    def _give_up(self, ending: Ending) -> None:
        """A child that died without a word gets another try; one that said why does not."""
        error = ending.error or failures.of_death(None, ending.peak_bytes, ending.peak_bytes)
        if ending.again and self.claim.lost + 1 < self.settings.max_attempts:
            self._hand_back("process lost, trying again", lost=True)
            return
        self._reject(error)

    def _reject(self, error: ErrorBody) -> None:
        def reject() -> None:
            with self.store.db.write() as tx:
                imports.mark_rejected(tx, self.fence, error)

        try:
            persist(reject, self.settings.lease_seconds)
        except LostLeaseError:
            log.warning("import lost or deleted, nothing written")
            return
        self._say("rejected", code=error.code)
        self._drop_upload()

    def _drop_upload(self) -> None:
        """After the row has let go of the upload, remove its bytes unless another row needs them."""
        garbage.drop(self.store, [self.claim.upload_sha256])

    def _hand_back(self, why: str, *, lost: bool = False) -> None:
        def release() -> None:
            with self.store.db.write() as tx:
                imports.release(tx, self.fence, lost=lost)

        persist(release, 1.0)
        self._say(why)

    def _say(self, what: str, **values: Any) -> None:
        seconds = round(time.monotonic() - self.began, 3)
        log.info(f"import {what}", seconds=seconds, **values)


def _model(manifest: ModelManifest, bundle: Path) -> Model:
    return Model(
        id=manifest.model_id,
        job_id=None,
        base_model=manifest.base_model,
        method="import",
        classes=manifest.classes,
        metrics={},
        bytes=bundle.stat().st_size,
        sha256=sync_and_hash(bundle),
        files=members(bundle),
        manifest=manifest,
        created_at=manifest.created_at,
    )
