"""A job's result in the contract's words: the model's manifest and the report."""

from dataclasses import dataclass
from typing import Any

import torch

from core.contract.base import now
from core.contract.few_shot import FewShot
from core.contract.jobs import JobSpec, Step
from core.contract.models import ModelManifest, Parity
from core.contract.reports import Report
from worker.engine import devices
from worker.engine.backbones import Base
from worker.engine.contest import Contest
from worker.engine.data import JobData
from worker.engine.door import Inputs
from worker.engine.evaluate import Evaluation, Scale
from worker.engine.graph import output_names
from worker.engine.task import Finding, Trained


@dataclass(frozen=True)
class Finished:
    """Everything that is known once a model was trained and measured."""

    spec: JobSpec
    inputs: Inputs
    method: Trained
    """What the method made."""
    contest: Contest
    evaluation: Evaluation
    scale: Scale
    notes: list[str]

    @property
    def trained(self) -> Trained:
        """What is served."""
        assert self.contest.served.trained is not None
        return self.contest.served.trained

    @property
    def base(self) -> Base:
        """The base model that it stands on."""
        assert self.contest.served.frozen is not None
        return self.contest.served.frozen.base

    @property
    def data(self) -> JobData:
        """The data as they were used."""
        return self.trained.data

    @property
    def start(self) -> str:
        """The base model by the name it was asked for, or the default's; that of the target, if it has its own."""
        card = self.base.identity.card
        if card.modality != self.data.source.modality:
            return self.spec.target_base_model or card.id
        return self.spec.base_model or card.id


def manifest(job: Finished, parity: Parity, *, device: torch.device, seconds: float) -> ModelManifest:
    """What stands in the bundle as `manifest.json`."""
    card, spec = job.base.identity.card, job.spec
    return ModelManifest(
        model_id=job.inputs.model_id,
        job_id=job.inputs.job_id,
        modality=card.modality,
        problem=job.data.problem,
        classes=job.data.classes,
        target=job.data.predicted,
        prepare=card.prepare,
        input_names=list(job.base.preparer().names),
        output_names=output_names(job.data.problem, few_shot=job.trained.few_shot is not None),
        temperature=job.scale.temperature,
        residual=job.scale.residual,
        base_model=job.start,
        architecture={
            "builder": card.builder,
            "name": card.architecture,
            "width": card.width,
            **job.trained.head.settings(),
            **({"config": card.config} if card.config else {}),
        },
        lineage=job.base.identity.lineage,
        method=spec.method.model_dump(mode="json") | job.method.options,
        seed=spec.seed,
        data=[collection.use() for collection in job.data.collections],
        train_items=len(job.data.train),
        validation_items=len(job.data.validation),
        held_out_items=len(job.data.held_out),
        metrics=job.evaluation.metrics,
        judgement=job.contest.judgement,
        parity=parity,
        few_shot=_few_shot(job.trained),
        versions=devices.versions(),
        hardware=devices.hardware(device),
        seconds=round(seconds, 3),
        licence=card.licence,
        created_at=now(),
    )


def _few_shot(trained: Trained) -> FewShot | None:
    """What it takes to change the model's classes."""
    found = trained.few_shot
    if found is None:
        return None
    return FewShot(
        kind=found.kind,
        scale=found.scale,
        counts=found.counts,
        least_logit=found.least_logit,
        initialisation=found.initialisation,
    )


def report(job: Finished, steps: list[Step]) -> Report:
    """What the job found out."""
    found = job.evaluation
    return Report(
        job_id=job.inputs.job_id,
        model_id=job.inputs.model_id,
        method=job.spec.method.name,
        modality=job.data.source.modality,
        problem=job.data.problem,
        target=job.data.predicted,
        base_model=job.start,
        classes=job.data.classes,
        evaluated_on=job.data.evaluated_on,
        train_items=len(job.data.train),
        validation_items=len(job.data.validation),
        held_out_items=len(job.data.held_out),
        metrics=found.metrics,
        class_table=found.class_table,
        confusion=found.confusion,
        calibration=found.calibration,
        scatter=found.scatter,
        arms=job.contest.arms,
        judgement=job.contest.judgement,
        shift=job.contest.shift,
        episodes=job.contest.episodes,
        curve_axis=job.method.axis,
        curve=job.method.curve,
        mistakes=found.mistakes,
        steps=steps,
        notes=job.notes,
    )


def finding(spec: JobSpec, inputs: Inputs, data: JobData, found: Finding, steps: list[Step]) -> Report:
    """The report of a job that makes no model."""
    base: dict[str, Any] = {
        "job_id": inputs.job_id,
        "model_id": None,
        "method": spec.method.name,
        "modality": data.source.modality,
        "problem": data.problem,
        "target": data.source.target,
        "base_model": spec.base_model or "",
        "classes": data.classes,
        "evaluated_on": data.evaluated_on,
        "train_items": len(data.train),
        "validation_items": len(data.validation),
        "held_out_items": len(data.held_out),
        "metrics": [],
        "class_table": [],
        "curve_axis": "epoch",
        "steps": steps,
        "notes": found.notes,
    }
    return Report(**base | found.fields)
