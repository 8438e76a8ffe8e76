"""What becomes of `auto` in the options of meta-learning, and what of the options cannot be."""

from dataclasses import dataclass
from typing import Literal

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.methods.episodic import Episodic, MetaLearning
from core.contract.prepare import ImagePrepare
from worker.engine.backbones import Base

SMALL = 64  # pixels up to which a picture is a small one
LOOKS = 20  # at validation classes, in a whole training
Kind = Literal["scratch", "network", "features"]


@dataclass(frozen=True)
class Usual:
    """What a method takes where nothing is said."""

    ways: int
    queries: int
    tasks: int
    steps: int
    lr: float
    shots: int | None = None
    """None: as many as it is measured by first."""


class Settled(MetaLearning):
    """The options with nothing left open."""

    freeze: str
    train_ways: int
    train_shots: int
    train_queries: int
    tasks: int
    steps: int
    lr: float
    augmentation: Literal["none", "affine"]


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    card: BaseModelCard
    scratch: bool
    classes: int
    """To train on, every turn of one being a class."""
    items: int
    """Of the class that has the fewest."""


def is_scratch(options: MetaLearning, base: Base) -> bool:
    """Whether there is nothing that the base model knows already."""
    identity = base.identity
    bare = identity.card.weights.source == "none" and len(identity.lineage) < 2 and identity.card.modality == "image"
    return options.init == "scratch" or bare


def check(options: MetaLearning, base: Base) -> None:
    """Refuse options that do not fit the base model: `JobError` `unknown_stage` or `invalid_options`."""
    card, freeze = base.identity.card, options.freeze
    if freeze not in {"auto", "none", "all", *card.stages}:
        base.backbone().frozen(freeze)  # says what its stages are
    if card.modality != "image" and freeze not in {"auto", "all"}:
        raise misfit("freeze", f"Of {card.modality} data, features of the frozen base model are trained on.")
    if card.modality != "image" and options.init == "scratch":
        raise misfit("init", f"Of {card.modality} data, features of the pretrained base model are trained on.")
    if card.modality != "image" and options.augmentation not in {"auto", "none"}:
        raise misfit("augmentation", f"Images can be augmented; the base model is for {card.modality} data.")
    if is_scratch(options, base) and freeze not in {"auto", "none"}:
        raise misfit("freeze", "Random weights cannot be frozen.")

    check_turns(options, base)


def needs_features(options: MetaLearning) -> bool:
    """Whether features of the frozen base model may be what is trained on."""
    return options.init == "pretrained" and options.freeze in {"auto", "all"}


def check_turns(options: Episodic, base: Base) -> None:
    """Refuse to turn what is no picture."""
    if options.rotations and base.identity.card.modality != "image":
        raise misfit("rotations", f"Images can be turned; the base model is for {base.identity.card.modality} data.")


def misfit(field: str, message: str) -> JobError:
    """An option that cannot be."""
    return JobError(message, code="invalid_options", param=f"method.{field}", hint=f"Leave `{field}` out.")


def kind_of(options: MetaLearning, scratch: bool) -> Kind:
    """What is trained: a network from random weights, a pretrained one, or a layer on cached features."""
    if scratch:
        return "scratch"
    return "features" if options.freeze in {"auto", "all"} else "network"


def settle(options: MetaLearning, facts: Facts, usual: dict[Kind, Usual]) -> Settled:
    """Replace every `auto`."""
    kind = kind_of(options, facts.scratch)
    own = usual[kind]
    ways = min(own.ways, facts.classes) if options.train_ways == "auto" else options.train_ways
    shots = (own.shots or options.shots[0]) if options.train_shots == "auto" else options.train_shots
    if options.train_shots == "auto":
        shots = max(1, min(shots, facts.items - 1))
    queries = options.train_queries
    if queries == "auto":
        queries = max(1, min(own.queries, facts.items - shots))
    known = options.model_dump() | {
        "freeze": {"scratch": "none", "features": "all", "network": options.freeze}[kind],
        "train_ways": ways,
        "train_shots": shots,
        "train_queries": queries,
        "tasks": own.tasks if options.tasks == "auto" else options.tasks,
        "steps": own.steps if options.steps == "auto" else options.steps,
        "lr": own.lr if options.lr == "auto" else options.lr,
        "augmentation": _augmentation(options, facts, kind),
    }
    return Settled(**{name: known[name] for name in Settled.model_fields})


def _augmentation(options: MetaLearning, facts: Facts, kind: Kind) -> str:
    if options.augmentation != "auto":
        return options.augmentation if kind != "features" else "none"
    prepare = facts.card.prepare
    small = isinstance(prepare, ImagePrepare) and prepare.size <= SMALL
    return "affine" if small and kind != "features" else "none"
