"""What becomes of `auto` in the options of deep domain adaptation, and what of the options cannot be."""

import math
from dataclasses import dataclass

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.methods.deep import Augmentation, BatchNorm, DeepAdaptation
from core.contract.prepare import ImagePrepare
from worker.engine.backbones import Base

FEW = 1000  # items of a domain below which the statistics of its batches are poor ones
SMALL = 64  # pixels up to which a picture is a small one
SMALL_BATCH = 32
STEPS = {"frozen": 600, "network": 1000, "scratch": 320}  # of gradient descent, as many as usually suffice
PART = 0.25  # of the epochs learn from the source alone


class Settled(DeepAdaptation):
    """The options with nothing left open."""

    epochs: int
    source_epochs: int
    batch_size: int
    head_lr: float
    backbone_lr: float
    weight_decay: float
    augmentation: Augmentation
    batch_norm: BatchNorm
    ema: float | None


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    card: BaseModelCard
    scratch: bool
    """Whether the base model's weights are random."""
    device: str
    source: int
    """Training items: those that an epoch goes through."""
    target: int
    classes: int
    alone: bool = False
    """Whether there is no source to learn from first."""


def is_scratch(options: DeepAdaptation, base: Base) -> bool:
    """Whether there is nothing that the base model knows already; one for tables hands on its columns, at least."""
    identity = base.identity
    bare = identity.card.weights.source == "none" and len(identity.lineage) < 2 and identity.card.modality == "image"
    return options.init == "scratch" or bare


def check(options: DeepAdaptation, base: Base) -> None:
    """Refuse options that do not fit the base model: `JobError` `unknown_stage` or `invalid_options`."""
    card = base.identity.card
    if options.freeze not in {"auto", "none", "all", *card.stages}:
        base.backbone().frozen(options.freeze)  # says what its stages are
    if is_scratch(options, base) and options.freeze not in {"auto", "none"}:
        raise _misfit("freeze", "Random weights cannot be frozen.", "Leave it out, or start from a trained model.")
    if options.augmentation not in {"auto", "none"} and card.modality != "image":
        message = f"Images can be augmented; the base model is for {card.modality} data."
        raise _misfit("augmentation", message, "Leave `augmentation` out.")
    epochs, alone = options.epochs, options.source_epochs
    if isinstance(epochs, int) and isinstance(alone, int) and alone >= epochs:
        message = f"All {epochs} epochs would learn from the source alone."
        raise _misfit("source_epochs", message, "Give fewer `source_epochs`, or more `epochs`.")


def _misfit(field: str, message: str, hint: str) -> JobError:
    return JobError(message, code="invalid_options", param=f"method.{field}", hint=hint)


def settle(options: DeepAdaptation, facts: Facts) -> Settled:
    """The options as they are used."""
    values = {name: getattr(options, name) for name in DeepAdaptation.model_fields}
    freeze = _freeze(options, facts)
    kind = "scratch" if facts.scratch else "frozen" if freeze == "all" else "network"
    usual = _usual(kind, facts)
    values["freeze"] = freeze
    values["batch_size"] = _given(options.batch_size, _batch_size(facts))
    values["epochs"] = _given(options.epochs, _epochs(kind, facts.source, values["batch_size"]))
    part = 0 if facts.alone else round(PART * values["epochs"])
    values["source_epochs"] = _given(options.source_epochs, part)
    values["source_epochs"] = min(values["source_epochs"], values["epochs"] - 1)
    values["batch_norm"] = _given(options.batch_norm, _batch_norm(kind, facts, values["batch_size"]))
    values["augmentation"] = "none" if kind == "frozen" else _given(options.augmentation, _augmentation(facts))
    steps = values["epochs"] * math.ceil(facts.source / values["batch_size"])
    for name, value in (*usual.items(), ("ema", _ema(steps))):
        values[name] = _given(values[name], value)
    return Settled.model_validate(values)


def _given(value: object, otherwise: object) -> object:
    return otherwise if value == "auto" else value


def _freeze(options: DeepAdaptation, facts: Facts) -> str:
    if options.freeze != "auto":
        return options.freeze
    return "all" if facts.device == "cpu" and not facts.scratch else "none"


def _usual(kind: str, facts: Facts) -> dict[str, float]:
    rate = 5e-5 if facts.card.modality == "text" else 1e-4
    return {
        "head_lr": 1e-3,
        "backbone_lr": 1e-3 if kind == "scratch" else rate,
        "weight_decay": 0.05 if kind == "scratch" else 0.01,
    }


def _batch_size(facts: Facts) -> int:
    return 64 if facts.source >= FEW or facts.classes > SMALL_BATCH else SMALL_BATCH


def _epochs(kind: str, items: int, batch_size: int) -> int:
    steps = -(-items // batch_size)
    return min(200, max(6, round(STEPS[kind] / steps)))


def _batch_norm(kind: str, facts: Facts, batch_size: int) -> BatchNorm:
    enough = min(facts.source, facts.target) >= FEW and batch_size >= SMALL_BATCH
    return "domain" if kind == "scratch" or enough else "frozen"


def _augmentation(facts: Facts) -> Augmentation:
    if not isinstance(facts.card.prepare, ImagePrepare):
        return "none"
    return "affine" if facts.card.prepare.size <= SMALL else "standard"


def _ema(steps: int) -> float | None:
    return None if steps < 100 else round(min(max(1 - 10 / steps, 0.9), 0.999), 4)
