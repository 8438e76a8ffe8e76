"""One job from top to bottom: prepare, features, train, compare, evaluate, export."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from core.bundle import write_bundle
from core.contract.base_models import BaseModelCard
from core.contract.datasets import Modality
from core.contract.errors import JobError
from core.contract.jobs import DEFAULT_BASE_MODELS, JobSpec
from core.contract.models import ModelManifest
from worker.engine import devices, export, model_card, notes, records
from worker.engine.adaptation import contest as adaptation
from worker.engine.arms import ArmRun
from worker.engine.backbones import Base, open_base
from worker.engine.cache import CacheFolder
from worker.engine.checkpoint import Checkpoints
from worker.engine.contest import Contest, Ground, hold
from worker.engine.costs import Costs, HeardSteps
from worker.engine.data import JobData
from worker.engine.door import Inputs, Places, Result, ShouldStop, Sink
from worker.engine.evaluate import Evaluation, Scale, evaluate, fit_scale
from worker.engine.explore import explore
from worker.engine.few_shot import contest as episodes
from worker.engine.frozen import FrozenFeatures
from worker.engine.hypothesis import TOLD, job_data
from worker.engine.methods.registry import METHODS
from worker.engine.records import Finished, finding, report
from worker.engine.steps import Steps, Wishes
from worker.engine.tables import fit_table
from worker.engine.task import Finding, Task, Trained

_DECISIVE = {"torch", "torchvision", "timm", "numpy", "pillow"}  # another version may train otherwise


def run_job(spec: JobSpec, inputs: Inputs, places: Places, *, sink: Sink, should_stop: ShouldStop) -> Result:
    """Run one job; see `worker.engine.door.Engine`."""
    wishes, costs = Wishes(should_stop), Costs(sink)
    method = METHODS[spec.method.name]
    sink, steps = costs, HeardSteps(costs, method.shares)
    if method.explores:
        found = explore(spec, inputs, places, _base, steps=steps, wishes=wishes, sink=sink)
        return replace(found, costs=costs.spent())
    with steps.step("prepare") as note:
        wishes.check()
        threads = devices.use_threads(places.threads)
        device = devices.choose(places.device)
        cache = CacheFolder(places.cache, places.cache_bytes, features=places.features)
        data = job_data(spec, inputs, measured=spec.method.makes_model)
        base = open_job_base(spec, inputs, places, cache, data)
        target = _open_target_base(spec, places, cache, data, base)
        note.text = _told(data)
    try:
        costs.opened(base, data, cache, device, threads)
        features = FrozenFeatures(
            base, cache, device=device, threads=threads, steps=steps, wishes=wishes, target=target
        )
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
            task = Task(
                spec.method,
                data,
                base,
                features,
                device,
                threads,
                spec.seed,
                steps,
                wishes,
                sink,
                checkpoints,
                spec.budget.max_seconds,
                inputs.parent,
            )
            trained = method.run(task)
        if isinstance(trained, Finding):
            return Result(None, finding(spec, inputs, data, trained, steps.done), None)
        if trained.options:
            sink("resolved", {"method": spec.method.model_dump(mode="json") | trained.options})
        with steps.step("compare") as note:
            wishes.check()
            ground = Ground(
                task, spec, inputs, partial(_base, spec, inputs, places, cache, data), places.out, _seconds(steps)
            )
            contest = _contest(ground, trained)
            measured = sum(arm.state == "measured" for arm in contest.arms)
            note.text = f"{measured} arms" if contest.judgement else "with nothing"
        served = contest.served
        with steps.step("evaluate"):
            wishes.check()
            evaluation, scale, said = _measure(task, served)
        job = Finished(spec, inputs, trained, contest, evaluation, scale, [*said, *trained.notes])
        with steps.step("export") as note:
            wishes.check()
            bundle, manifest = _export(job, places, cache, steps)
            note.text = f"{bundle.stat().st_size / 1e6:.1f} MB"
        steps.progress("export", 1.0)
        costs.closed(base, data, cache)
        return Result(manifest, report(job, steps.done), bundle, costs.spent(**_kept(job)))
    finally:
        data.close()


def _contest(ground: Ground, trained: Trained) -> Contest:
    """What the method is compared with, and on what, is another thing for each kind of job."""
    if trained.learnt is not None:
        return episodes.compare(ground, trained)
    return hold(ground, trained) if ground.task.data.target is None else adaptation.compare(ground, trained)


def _told(data: JobData) -> str:
    """What was read."""
    learnt = (
        f"{len(data.train)} training, {len(data.validation)} validation" if data.hypothesis is None else "no source"
    )
    said = f"{learnt}, {len(data.held_out)} held out"
    return said if data.target is None else f"{said}, {len(data.target)} of the target"


def _kept(job: Finished) -> dict[str, bool]:
    """What has become of the base model, by which later estimates are made."""
    return {"trained": job.trained.backbone is not None, "changed": job.method.backbone is not None}


def open_job_base(spec: JobSpec, inputs: Inputs, places: Places, cache: CacheFolder, data: JobData) -> Base:
    """The base model; a table's inputs are what its training rows, or without any its parent, make them."""
    try:
        base = _base(spec, inputs, places, cache, data)
        _check_modality(base.identity.card, data.source.modality)
        METHODS[spec.method.name].check(spec.method, base)
    except BaseException:
        data.close()
        raise
    return base


def _base(
    spec: JobSpec,
    inputs: Inputs,
    places: Places,
    cache: CacheFolder,
    data: JobData,
    *,
    pretrained: bool | None = None,
) -> Base:
    """The base model, with random weights where the method, or `pretrained`, wants them."""
    modality = data.source.modality
    if pretrained is None:
        pretrained = getattr(spec.method, "init", "pretrained") == "pretrained"
    return open_base(
        spec.base_model or DEFAULT_BASE_MODELS[modality],
        weights_dir=places.weights,
        pretrained=pretrained,
        seed=spec.seed,
        parent=inputs.parent,
        cache=cache,
        table=fit_table(data.train, inputs.parent) if modality == "tabular" and data.hypothesis is None else None,
    )


def _open_target_base(spec: JobSpec, places: Places, cache: CacheFolder, data: JobData, base: Base) -> Base:
    """The target's base model: the source's own, unless a method that can do with it meets another kind of data."""
    if data.target is None or not spec.method.heterogeneous:
        return base
    manifest = data.target.collection.manifest
    other = manifest.modality != data.source.modality
    if not other and (manifest.modality != "tabular" or manifest.columns == data.source.columns):
        return base
    named = spec.target_base_model if other else None
    found = open_base(
        named or DEFAULT_BASE_MODELS[manifest.modality],
        weights_dir=places.weights,
        seed=spec.seed,
        cache=cache,
        table=fit_table(data.target, None) if manifest.modality == "tabular" else None,
    )
    _check_modality(found.identity.card, manifest.modality, "target_base_model")
    return found


def _seconds(steps: Steps) -> float:
    """What the step before took."""
    return steps.done[-1].seconds or 0.0


def _check_modality(card: BaseModelCard, modality: Modality, param: str = "base_model") -> None:
    if card.modality != modality:
        raise JobError(
            f"{card.id} is a base model for {card.modality} data; the data set is {modality}.",
            code="modalities_differ",
            param=param,
            hint=f"Leave `{param}` out, and {DEFAULT_BASE_MODELS[modality]} is taken.",
        )


def _belongs(spec: JobSpec, inputs: Inputs, base: Base) -> dict[str, Any]:
    """What a checkpoint of this job goes with; by content, for the same data may have another id."""
    card = base.identity.card
    return {
        "method": spec.method.model_dump(mode="json"),
        "seed": spec.seed,
        "source": inputs.source.manifest_sha256 if inputs.source else spec.base_model,  # whose classifier stays
        "evaluation": inputs.evaluation.manifest_sha256 if inputs.evaluation else None,
        "target": inputs.target.manifest_sha256 if inputs.target else None,
        "target labels": spec.target_labels,
        "base model": base.identity.key,
        "preparation": card.prepare.model_dump(mode="json"),
        "versions": {name: text for name, text in devices.versions().items() if name in _DECISIVE},
    }


def _measure(task: Task, served: ArmRun) -> tuple[Evaluation, Scale, list[str]]:
    """Fit the temperature on what was not trained on, measure on held-out items; tells and returns figures, notes."""
    assert served.trained is not None
    data = served.trained.data
    unseen = served.choosing[len(task.data.train) :]
    scale = fit_scale(data, unseen[: len(data.validation)], served.trained.out_of_fold)
    found = evaluate(served.held_out, data, scale, task.rng())
    if found.metrics:
        task.sink("metric", {metric.name: metric.value for metric in found.metrics})
    said = [*notes.about_accuracy(found.metrics), *notes.about_data(data)]
    if data.hypothesis is not None:
        said.append(TOLD)
    return found, scale, [*said, scale.note] if scale.note else said


def _export(job: Finished, places: Places, cache: CacheFolder, steps: Steps) -> tuple[Path, ModelManifest]:
    """Write the bundle of the arm that is served."""
    places.out.mkdir(parents=True, exist_ok=True)
    features = job.contest.served.frozen
    assert features is not None
    scale, unit = job.scale.temperature, job.data.scale
    head = job.trained.head if unit is None else job.trained.head.rescaled(unit.mean, unit.std)
    metadata = {"model_id": job.inputs.model_id, "temperature": repr(scale)}
    graph, tensors = export.write(job.trained, job.base, head, scale, out=places.out, cache=cache, metadata=metadata)
    # A GPU embeds in mixed precision: its features are no reference for figures this exact.
    frozen = job.trained.backbone is None and features.exact
    known = features(job.data.tried) if frozen else None
    parity = export.check(graph, job.trained, job.base, head, temperature=scale, features=known)
    manifest = records.manifest(job, parity, device=features.device, seconds=steps.seconds())
    files: dict[str, Path | bytes] = {
        "model.onnx": graph,
        "model.safetensors": tensors,
        "manifest.json": manifest.model_dump_json(indent=2).encode(),
        "README.md": model_card.write(manifest, job.notes).encode(),
    }
    if job.base.tokenizer is not None:
        files["tokenizer.json"] = job.base.tokenizer
    bundle = places.out / "model.zip"
    write_bundle(bundle, files)
    graph.unlink()
    tensors.unlink()
    return bundle, manifest
