"""One import from top to bottom: open, check names, read values, build, export, compare, write the bundle."""

import shutil
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundle import write_bundle
from core.contract.errors import JobError
from core.contract.models import Parity
from worker.engine import devices, parity
from worker.engine.cache import CacheFolder
from worker.engine.door import CancelledError, Places, ShouldStop
from worker.engine.graph import BackboneFiles, backbone_files, join_head
from worker.engine.importing import records
from worker.engine.importing.door import Imported, ImportSpec
from worker.engine.importing.header import read_header
from worker.engine.importing.kinds import Checked, bundled, plain
from worker.engine.importing.network import run
from worker.engine.importing.synthetic import images
from worker.engine.importing.upload import open_upload
from worker.engine.sessions import try_graph
from worker.engine.tensors import join_tensors

_TOLERANCE = 1e-4
Floats = NDArray[np.float32]


def run_import(upload: Path, spec: ImportSpec, places: Places, *, should_stop: ShouldStop) -> Imported:
    """Run one import; see `worker.engine.importing.check_and_export`."""
    begun = time.monotonic()
    devices.use_threads(places.threads)
    opened = open_upload(upload, spec.max_classes)
    with upload.open("rb") as file:
        entries = read_header(file, opened.start, opened.size)
        _go_on(should_stop)
        claimed = opened.manifest
        checked = plain(file, entries, spec) if claimed is None else bundled(file, entries, claimed)
    _go_on(should_stop)
    tried = images(checked.card.prepare)
    files = backbone_files(checked.network.backbone, CacheFolder(places.cache, places.cache_bytes))
    _go_on(should_stop)
    graph, tensors = _write(checked, files, places.out, spec.model_id)
    compared = _compare(checked, graph, tried)
    manifest = records.manifest(checked, spec, claimed, compared, seconds=round(time.monotonic() - begun, 3))
    bundle = places.out / "model.zip"
    members: dict[str, Path | bytes] = {
        "model.onnx": graph,
        "model.safetensors": tensors,
        "manifest.json": manifest.model_dump_json(indent=2).encode(),
        "README.md": records.readme(manifest).encode(),
    }
    write_bundle(bundle, members)
    graph.unlink()
    tensors.unlink()
    return Imported(manifest, bundle)


def _go_on(should_stop: ShouldStop) -> None:
    if should_stop() != "go_on":
        raise CancelledError


def _write(checked: Checked, files: BackboneFiles, out: Path, model_id: str) -> tuple[Path, Path]:
    out.mkdir(parents=True, exist_ok=True)
    graph, tensors = out / "model.onnx", out / "model.safetensors"
    head = checked.network.head
    if head is None:
        shutil.copyfile(files.graph, graph)
        shutil.copyfile(files.tensors, tensors)
        return graph, tensors
    join_head(files.graph, head, checked.temperature, graph)
    join_tensors(files.tensors, head, tensors, {"model_id": model_id, "temperature": repr(checked.temperature)})
    return graph, tensors


def _compare(checked: Checked, graph: Path, tried: Floats) -> Parity:
    """Our graph against PyTorch; `JobError` `parity_failed`."""
    embedding = run(checked.network.backbone.module, torch.from_numpy(tried))
    head = checked.network.head
    if head is not None:
        with torch.inference_mode():
            logits = head.as_module()(embedding)
        return parity.check(graph, torch.softmax(logits / checked.temperature, dim=1).numpy(), {"image": tried})
    ran = try_graph(graph, ["embedding"], [{"image": tried}])
    largest = max(float(embedding.abs().max()), 1e-6)
    worst = float("inf") if isinstance(ran, str) else float(np.abs(ran[0][0] - embedding.numpy()).max()) / largest
    if not worst <= _TOLERANCE:
        raise JobError(
            "The exported graph does not agree with PyTorch.",
            code="parity_failed",
            hint="The model was not stored. Report the architecture with its name.",
            details={"difference": str(worst)},
        )
    return Parity(items=len(tried), max_abs_difference=worst, tolerance=_TOLERANCE)
