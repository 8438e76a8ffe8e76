"""The door for imports: what goes in and what comes out. Importing it is cheap; torch comes with the first call."""

from dataclasses import dataclass
from pathlib import Path

from core.contract.models import ModelManifest
from worker.engine.door import Places, ShouldStop


@dataclass(frozen=True)
class ImportSpec:
    """What was said beside the uploaded file."""

    model_id: str
    name: str
    sha256: str
    """Of the upload."""
    base_model: str | None = None
    """The architecture that plain weights are for: a card's id or `timm:<name>`. A bundle says its own."""
    classes: list[str] | None = None
    """Names of the outputs of plain weights' classifier."""
    max_classes: int = 2_000


@dataclass(frozen=True)
class Imported:
    """A checked model. `bundle` is a zip (stored, not compressed) of files that were all written here."""

    manifest: ModelManifest
    bundle: Path


def check_and_export(upload: Path, spec: ImportSpec, places: Places, *, should_stop: ShouldStop) -> Imported:
    """Check an uploaded bundle or safetensors file against its architecture, and export the network anew.

    Raises `JobError` with a code and a remedy, `CancelledError` when it is not wanted any more. Codes:
    `invalid_bundle`, `invalid_manifest`, `invalid_safetensors`, `too_many_tensors`, `unknown_base_model`,
    `weights_mismatch`, `weights_not_finite`, `invalid_weights`, `head_missing`, `head_not_linear`, `classes_mismatch`,
    `export_failed`, `parity_failed`.
    """
    from worker.engine.importing.run import run_import

    return run_import(upload, spec, places, should_stop=should_stop)
