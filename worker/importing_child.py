"""What the child process of an import does: check the upload, put a bundle of our own into the work folder."""

from pathlib import Path
from typing import Any

from worker.child import Link
from worker.engine.door import Places
from worker.engine.importing import ImportSpec, check_and_export


def run(link: Link, upload: Path, spec: ImportSpec, places: Places) -> dict[str, Any]:
    """Check and export one upload; returns the manifest and the bundle's path."""
    made = check_and_export(upload, spec, places, should_stop=link.wish)
    return {"manifest": made.manifest.model_dump(mode="json"), "bundle": str(made.bundle)}
