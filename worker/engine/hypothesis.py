"""The source hypothesis: a classifier of the user's own that stands for source data which are not there.

Its classes are the job's. Nothing has labels to learn or to choose by; labels of the target, or of an evaluation data
set, measure.
"""

from pathlib import Path

import numpy as np

from core.contract.datasets import SPLITS
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS
from core.contract.models import ModelManifest
from worker.engine.backbones import own
from worker.engine.data import JobData, check_alike, check_labelled, opened, read, select
from worker.engine.datasets import Collection, Items, mapping
from worker.engine.door import Inputs
from worker.engine.heads import Head
from worker.engine.targets import UNKNOWN, divide

TOLD = (
    "No source data had a part in this: the classes, and the classifier, are those of the model it started from. What "
    "can only be known from source items, the shift and some of the guard's questions, was left out."
)


def job_data(spec: JobSpec, inputs: Inputs, *, measured: bool) -> JobData:
    """A job's data, with a source or without one; `JobError` where it needs one, and as `worker.engine.data.read`."""
    if inputs.source is None:
        return _alone(spec, inputs)
    return read(
        inputs,
        measured=measured,
        labelled=spec.method.needs_labels,
        across=spec.method.heterogeneous,
        episodic=spec.method.episodic,
        target_labels=spec.target_labels,
        seed=spec.seed,
    )


def head(parent: Path, found: ModelManifest) -> Head:
    """The classifier of a model: its logits are calibrated, for there is nothing that could calibrate them anew."""
    classifier = own.head(parent, found)
    if classifier is None or found.problem != "classification" or len(found.classes) < 2:
        raise JobError(
            f"{found.model_id} tells no classes apart, and without a `source` these are the model's.",
            code="classifier_required",
            param="base_model",
            hint="Start from a model that a job on labelled data has made; or name a labelled `source`.",
        )
    return classifier.rescaled(0.0, 1 / found.temperature)


def _alone(spec: JobSpec, inputs: Inputs) -> JobData:
    able = [f"`{name}`" for name, options in METHODS.items() if options.source_optional]
    if not spec.method.source_optional:
        raise JobError(
            f"`{spec.method.name}` learns from a labelled `source`, and the job names none.",
            code="source_required",
            param="source",
            hint=f"Name one; {', '.join(able)} can do without, with a model of yours as the base model.",
        )
    if inputs.parent is None or inputs.target is None:
        missing = "base_model" if inputs.parent is None else "target"
        raise JobError(
            f"Without a `source` `{spec.method.name}` adapts a model of yours (`base_model`) to a `target`.",
            code="own_model_required" if inputs.parent is None else "target_required",
            param=missing,
            hint="Name both, or a labelled `source`.",
        )
    found = own.manifest(inputs.parent)
    head(inputs.parent, found)
    with opened(inputs) as collections:
        return _divided(spec, collections, found)


def _divided(spec: JobSpec, collections: list[Collection], found: ModelManifest) -> JobData:
    target, *others = collections
    rng = np.random.default_rng(spec.seed)
    divided = divide(target, found.classes, spec.target_labels, audit_all=bool(others), rng=rng)
    held_out = divided.measured
    for evaluation in others:
        check_labelled(evaluation)
        check_alike(found.problem, target, evaluation)
        mapping(evaluation, found.classes, param="evaluation", code="classes_differ")
        held_out, _ = select(evaluation, SPLITS, found.classes)
    nobody = np.empty(0, dtype=np.int64)
    none = Items(target, nobody, np.full(0, UNKNOWN))
    return JobData(found.classes, none, none, held_out, collections, target=divided.items, hypothesis=found)
