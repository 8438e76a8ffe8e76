"""One job from top to bottom: prepare, features, train, evaluate, export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract.jobs import JobSpec, StepName
from core.contract.models import ModelManifest
from worker.engine import devices, export, model_card, notes, records
from worker.engine.backbones import Base, open_base
from worker.engine.bundle import write_bundle
from worker.engine.cache import CacheFolder
from worker.engine.checkpoint import Checkpoints
from worker.engine.data import Items, read
from worker.engine.door import Inputs, Places, Result, ShouldStop, Sink
from worker.engine.evaluate import Evaluation, evaluate, temperature
from worker.engine.feeds import embed_images
from worker.engine.frozen import FrozenFeatures
from worker.engine.images import ImageCache
from worker.engine.loading import workers
from worker.engine.methods import METHODS
from worker.engine.records import Finished, report
from worker.engine.steps import Steps, Wishes
from worker.engine.task import Task, Trained

Floats = NDArray[np.float32]
_SHARES: dict[str, dict[StepName, float]] = {  # of a job's time, as they usually are
    "linear_probe": {"prepare": 1, "features": 70, "train": 8, "evaluate": 1, "export": 10},
    "fine_tune": {"prepare": 1, "features": 8, "train": 80, "evaluate": 3, "export": 8},
}

_DECISIVE = {"torch", "torchvision", "timm", "numpy", "pillow"}  # another version may train otherwise


def run_job(spec: JobSpec, inputs: Inputs, places: Places, *, sink: Sink, should_stop: ShouldStop) -> Result:
    """Run one job; see `worker.engine.door.Engine`."""
    wishes = Wishes(should_stop)
    steps = Steps(sink, _SHARES[spec.method.name])
    method = METHODS[spec.method.name]
    with steps.step("prepare") as note:
        wishes.check()
        threads = devices.use_threads(places.threads)
        device = devices.choose(places.device)
        cache = CacheFolder(places.cache, places.cache_bytes)
        base = open_base(
            spec.base_model,
            weights_dir=places.weights,
            pretrained=getattr(spec.method, "init", "pretrained") == "pretrained",
            seed=spec.seed,
            parent=inputs.parent,
            cache=cache,
        )
        method.check(spec.method, base)
        data = read(inputs)
        note.text = f"{len(data.train)} training, {len(data.validation)} validation, {len(data.held_out)} held out"
    try:
        features = FrozenFeatures(base, cache, device=device, threads=threads, steps=steps, wishes=wishes)
        if method.needs_features(spec.method):
            with steps.step("features") as note:
                note.text = features.load(data.collections)
        with steps.step("train"):
            wishes.check()
            checkpoints = Checkpoints(
                places.out,
                sink,
                _belongs(spec, inputs, base),
                every=places.checkpoint_seconds,
                resume=inputs.checkpoint,
            )
            task = Task(spec.method, data, base, features, device, threads, spec.seed, steps, wishes, sink, checkpoints)
            trained = method.run(task)
        with steps.step("evaluate"):
            wishes.check()
            evaluation, said = _measure(task, trained, features)
            sink("metric", {metric.name: metric.value for metric in evaluation.metrics})
        job = Finished(spec, inputs, base, trained, evaluation, said)
        with steps.step("export") as note:
            wishes.check()
            bundle, manifest = _export(job, places, cache, features, steps)
            note.text = f"{bundle.stat().st_size / 1e6:.1f} MB"
        steps.progress("export", 1.0)
        return Result(manifest, report(job, steps.done), bundle)
    finally:
        data.close()


def _belongs(spec: JobSpec, inputs: Inputs, base: Base) -> dict[str, Any]:
    """What a checkpoint of this job goes with; by content, for the same data may have another id."""
    card = base.identity.card
    return {
        "method": spec.method.model_dump(mode="json"),
        "seed": spec.seed,
        "source": inputs.source.manifest_sha256,
        "evaluation": inputs.evaluation.manifest_sha256 if inputs.evaluation else None,
        "base model": base.identity.key,
        "preparation": card.prepare.model_dump(mode="json"),
        "versions": {name: text for name, text in devices.versions().items() if name in _DECISIVE},
    }


def _measure(task: Task, trained: Trained, features: FrozenFeatures) -> tuple[Evaluation, list[str]]:
    """Fit the temperature on validation items, measure on held-out ones; returns the figures and the notes."""
    data = trained.data
    validation, held_out = (
        _logits(trained, items, features, task.wishes.check) for items in (data.validation, data.held_out)
    )
    scale = temperature(validation, data.validation.labels, trained.out_of_fold, data.train.labels)
    found = evaluate(held_out, data.held_out, scale, data.classes, task.rng())
    accuracy = found.metrics[0]
    said = [*notes.about_accuracy(accuracy), *notes.about_data(data), *trained.notes]
    if trained.probe is not None:
        right = trained.probe(features(data.held_out)).argmax(axis=1) == data.held_out.labels
        said.append(notes.about_probe(float(right.mean()), accuracy.value, accuracy.n))
    return found, [*said, scale.note] if scale.note else said


def _logits(trained: Trained, items: Items, features: FrozenFeatures, check: Callable[[], None]) -> Floats:
    """Logits (n, C) of items."""
    if len(items) == 0:
        return np.empty((0, trained.head.classes), dtype=np.float32)
    if trained.backbone is None:
        return trained.head(features(items))
    module = trained.backbone.module.to(features.device)
    with workers(features.threads, "evaluate") as pool:
        images = ImageCache(items, trained.backbone.card.prepare, share=0)
        return trained.head(embed_images(module, images, device=features.device, pool=pool, check=check))


def _export(
    job: Finished, places: Places, cache: CacheFolder, features: FrozenFeatures, steps: Steps
) -> tuple[Path, ModelManifest]:
    """Write the bundle."""
    places.out.mkdir(parents=True, exist_ok=True)
    scale = job.evaluation.calibration.temperature
    metadata = {"model_id": job.inputs.model_id, "temperature": repr(scale)}
    graph, tensors = export.write(job.trained, job.base, scale, out=places.out, cache=cache, metadata=metadata)
    held_out = job.data.held_out
    # A GPU embeds in mixed precision: its features are no reference for figures this exact.
    frozen = job.trained.backbone is None and features.device.type == "cpu"
    known = features(held_out) if frozen else None
    parity = export.check(graph, job.trained, job.base, temperature=scale, held_out=held_out, features=known)
    manifest = records.manifest(job, parity, device=features.device, seconds=steps.seconds())
    files: dict[str, Path | bytes] = {
        "model.onnx": graph,
        "model.safetensors": tensors,
        "manifest.json": manifest.model_dump_json(indent=2).encode(),
        "README.md": model_card.write(manifest, job.notes).encode(),
    }
    bundle = places.out / "model.zip"
    write_bundle(bundle, files)
    graph.unlink()
    tensors.unlink()
    return bundle, manifest
