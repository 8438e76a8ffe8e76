"""What a job reads and where it may write: from rows to files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from core.contract.base import new_id
from core.contract.errors import JobError, NotFoundError
from core.contract.jobs import JobSpec
from core.contract.methods import RankBaseModels
from core.contract.models import DataUse
from core.settings import Settings
from core.store import datasets, models
from core.store.store import Store
from worker.engine.door import DataRef, Inputs, Places


@dataclass(frozen=True)
class InputFinder:
    """Finds a tenant's files within a transaction; a thing that was deleted is a `JobError` that names it."""

    store: Store
    tx: Connection
    tenant: str

    def inputs(self, job_id: str, spec: JobSpec, checkpoint: Path | None = None) -> Inputs:
        """All that the job reads."""
        base_model = spec.base_model or ""
        return Inputs(
            job_id=job_id,
            model_id=new_id("mdl"),
            source=None if spec.source is None else self._data(spec.source, "source"),
            evaluation=None if spec.evaluation is None else self._data(spec.evaluation, "evaluation"),
            parent=self._parent(base_model),
            former=self._former(base_model),
            checkpoint=checkpoint,
            parents=self._parents(spec),
            target=None if spec.target is None else self._data(spec.target, "target"),
        )

    def _data(self, dataset_id: str, param: str) -> DataRef:
        try:
            found = datasets.blobs(self.tx, self.tenant, dataset_id)
        except NotFoundError as error:
            raise _missing(error.message, "dataset_not_found", param) from error
        if found is None:
            raise _missing(f"Data set {dataset_id} is not ready.", "dataset_not_ready", param)
        manifest = self._blob(found.manifest_sha256, dataset_id, param)
        content = self._blob(found.content_sha256, dataset_id, param)
        return DataRef(dataset_id, manifest, found.manifest_sha256, content)

    def _parent(self, base_model: str) -> Path | None:
        if not base_model.startswith("mdl_"):
            return None
        try:
            model = models.get(self.tx, self.tenant, base_model)
        except NotFoundError as error:
            raise _missing(error.message, "model_not_found", "base_model") from error
        return self._blob(model.sha256, model.id, "base_model")

    def _parents(self, spec: JobSpec) -> dict[str, Path]:
        """Bundles of the user's own models that a ranking looks at."""
        if not isinstance(spec.method, RankBaseModels) or spec.method.base_models == "all":
            return {}
        found = {name: self._parent(name) for name in spec.method.base_models}
        return {name: path for name, path in found.items() if path is not None}

    def _former(self, base_model: str) -> DataRef | None:
        """What the parent was measured on, if that data set is still there just as it was."""
        if not base_model.startswith("mdl_"):
            return None
        use = self._measured_on({use.role: use for use in models.get(self.tx, self.tenant, base_model).manifest.data})
        if use is None:
            return None
        try:
            found = self._data(use.dataset_id, "base_model")
        except JobError:
            return None
        return found if found.manifest_sha256 == use.manifest_sha256 else None

    def _measured_on(self, uses: Mapping[str, DataUse]) -> DataUse | None:
        """An evaluation data set; else a target with labels; else the source, of which the test split was left out."""
        target = uses.get("target")
        if "evaluation" in uses or target is None:
            return uses.get("evaluation") or uses.get("source")
        try:
            labelled = datasets.get(self.tx, self.tenant, target.dataset_id).labelled
        except NotFoundError:
            return None
        return target if labelled else uses.get("source")

    def _blob(self, sha256: str, owner: str, param: str) -> Path:
        if not self.store.blobs.exists(sha256):
            raise _missing(f"The stored bytes of {owner} are gone.", "blob_missing", param)
        return self.store.blob(sha256)


def _missing(message: str, code: str, param: str) -> JobError:
    return JobError(message, code=code, param=param, hint="It was deleted after the job was sent; send the job anew.")


def places(settings: Settings, folder: Path) -> Places:
    """Where a job may write and look; `folder` is its own."""
    cache = settings.root / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return Places(
        out=folder,
        cache=cache,
        weights=settings.weights_dir,
        cache_bytes=settings.cache_bytes,
        features=settings.features,
        device=settings.device,
        threads=settings.threads,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
