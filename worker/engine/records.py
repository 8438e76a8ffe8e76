"""A job's result in the contract's words: the model's manifest and the report."""

from dataclasses import dataclass

import torch

from core.contract.base import now
from core.contract.jobs import JobSpec, Step
from core.contract.models import ModelManifest, Parity
from core.contract.reports import Report
from worker.engine import devices
from worker.engine.backbones import Base
from worker.engine.data import JobData
from worker.engine.door import Inputs
from worker.engine.evaluate import Evaluation
from worker.engine.task import Trained


@dataclass(frozen=True)
class Finished:
    """Everything that is known once a model was trained and measured."""

    spec: JobSpec
    inputs: Inputs
    base: Base
    trained: Trained
    evaluation: Evaluation
    notes: list[str]

    @property
    def data(self) -> JobData:
        """The data as they were used."""
        return self.trained.data


def manifest(job: Finished, parity: Parity, *, device: torch.device, seconds: float) -> ModelManifest:
    """What stands in the bundle as `manifest.json`."""
    card, spec = job.base.identity.card, job.spec
    return ModelManifest(
        model_id=job.inputs.model_id,
        job_id=job.inputs.job_id,
        classes=job.data.classes,
        prepare=card.prepare,
        temperature=job.evaluation.calibration.temperature,
        base_model=spec.base_model,
        architecture={
            "builder": card.builder,
            "name": card.architecture,
            "width": card.width,
            "normalise": job.trained.head.normalise,
        },
        lineage=job.base.identity.lineage,
        method=spec.method.model_dump(mode="json") | job.trained.options,
        seed=spec.seed,
        data=[collection.use() for collection in job.data.collections],
        train_items=len(job.data.train),
        validation_items=len(job.data.validation),
        held_out_items=len(job.data.held_out),
        metrics=job.evaluation.metrics,
        parity=parity,
        versions=devices.versions(),
        hardware=devices.hardware(device),
        seconds=round(seconds, 3),
        licence=card.licence,
        created_at=now(),
    )


def report(job: Finished, steps: list[Step]) -> Report:
    """What the job found out."""
    found = job.evaluation
    return Report(
        job_id=job.inputs.job_id,
        model_id=job.inputs.model_id,
        method=job.spec.method.name,
        base_model=job.spec.base_model,
        classes=job.data.classes,
        evaluated_on=job.data.evaluated_on,
        train_items=len(job.data.train),
        validation_items=len(job.data.validation),
        held_out_items=len(job.data.held_out),
        metrics=found.metrics,
        class_table=found.class_table,
        confusion=found.confusion,
        calibration=found.calibration,
        curve_axis=job.trained.axis,
        curve=job.trained.curve,
        mistakes=found.mistakes,
        steps=steps,
        notes=job.notes,
    )
