"""What becomes of `auto`: options of `fine_tune` decided by the data, the base model and the device.

The rules are simple ones. Sizes and rates are those that did well on small photo sets, digits and reviews alike; none
is fitted to one of them. How hard the base model's features find the task (the probe's own score, from items it was
not fitted to) decides how far its weights should move.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.contract.base_models import BaseModelCard
from core.contract.datasets import Modality, Problem
from core.contract.methods import FineTune
from core.contract.methods.fine_tune import Augmentation

FEW = 1000
"""Items below which BatchNorm statistics are better left alone, and batches are small."""
SMALL_BATCH = 32
_EASY, _HARD = 0.95, 0.85  # scores of a linear probe on frozen features
_UNEVEN = 10.0  # items of the largest class to those of the smallest
_LARGE = 100_000_000  # parameters from which on a text network is trained by low-rank additions
_SMALL_HEAD = 0.1  # of the probe's weights; from there on the head learns as fast as one that knows nothing
_SGD = 30.0  # times AdamW's rate


class Settled(FineTune):
    """The options with nothing left open."""

    head_scale: float
    epochs: int
    batch_size: int
    head_lr: float
    backbone_lr: float
    layer_decay: float
    lora_rank: int | None
    lora_alpha: float
    weight_decay: float
    warmup: float
    label_smoothing: float
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation
    mixup: float
    ema: float | None
    early_stop: int | None
    batch_norm: Literal["frozen", "train"]
    devices: int


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    modality: Modality
    problem: Problem
    train_items: int
    card: BaseModelCard
    class_counts: tuple[int, ...] = ()
    """Training items of each class, positives for `multi_label`."""
    device: str = "cpu"
    """Its type: `cpu` or `cuda`."""
    gpus: int = 0
    """How many are visible."""
    probe: float | None = None
    """Score of a linear probe on frozen features by leave-one-out; None where there is none."""
    table: Mapping[str, Any] | None = None
    """Options that suit a table of so many rows."""


Choice = tuple[Any, str]
"""A value, and why; without a reason it is the usual one."""
Rule = Callable[[FineTune, Facts], Choice]


def resolve(options: FineTune, facts: Facts) -> tuple[Settled, list[str]]:
    """The options as they are used, and the reasons for what was decided: sentences, one for each notable choice."""
    values, reasons = dict(options), []
    if _is_scratch(options):  # there is nothing to add to, to return to or to stay near
        values |= {"lora_rank": None, "wise_ft": None, "l2_sp": 0.0}
    for name, rule in RULES.items():
        if values[name] != "auto":
            continue
        value, why = _choose(name, rule, FineTune.model_construct(**values), facts)
        values[name] = value
        if why:
            reasons.append(f"`{name}` is {_shown(value)}: {why}.")
    return Settled.model_validate(values), reasons


def _choose(name: str, rule: Rule, options: FineTune, facts: Facts) -> Choice:
    table = facts.table or {}
    if name in table and options.init == "pretrained":
        return table[name], f"usual for a table of {facts.train_items} rows"
    return rule(options, facts)


def _shown(value: object) -> str:
    if value is None:
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _within(value: float, low: int, high: int) -> int:
    return int(min(max(round(value), low), high))


def _is_scratch(options: FineTune) -> bool:
    return options.init == "scratch"


def _sgd(options: FineTune) -> float:
    return _SGD if options.optimiser == "sgd" else 1.0


def _batch_size(_options: FineTune, facts: Facts) -> Choice:
    items = facts.train_items
    if items < 100:
        return 8, f"there are {items} training items"
    if items < FEW:
        return 16, f"there are {items} training items"
    if facts.device == "cuda" and items >= 20_000:
        return 64, f"there are {items} training items, and a GPU"
    return 32, ""


def _epochs(options: FineTune, facts: Facts) -> Choice:
    items, why = facts.train_items, f"there are {facts.train_items} training items"
    if _is_scratch(options):
        return _within(20_000 / items, 10, 20), f"{why}, and nothing is known yet"
    if facts.modality == "tabular":
        return _within(30_000 / items, 10, 60), why
    if facts.modality == "text":
        return _within(6_000 / items, 2, 8), why
    return _within(8_000 / items, 3, 10), why


def _head_scale(options: FineTune, facts: Facts) -> Choice:
    if _is_scratch(options) or not options.head_start or options.freeze == "all" or facts.problem != "classification":
        return 1.0, ""
    if facts.modality == "tabular":  # nothing was measured there
        return 1.0, ""
    if facts.probe is None or facts.probe >= _EASY:
        return 1.0, ""
    return _SMALL_HEAD, f"frozen features do not suffice (a probe's score is {facts.probe:.2f}): they have to move"


def _head_lr(options: FineTune, _facts: Facts) -> Choice:
    if _is_scratch(options):
        return 1e-3 * _sgd(options), ""
    assert isinstance(options.head_scale, float)
    if options.head_start and options.head_scale > _SMALL_HEAD:
        return 1e-4 * _sgd(options), "the head starts from a linear probe"
    return 1e-3 * _sgd(options), ""


def _backbone_lr(options: FineTune, facts: Facts) -> Choice:
    if _is_scratch(options):
        return options.head_lr, ""
    if options.lora_rank:
        return 5e-4 * _sgd(options), "low-rank additions start from nothing"
    usual = 5e-5 if facts.modality == "text" else 1e-4
    if facts.modality == "tabular":
        usual = 3e-4
    if facts.probe is None or facts.problem == "regression":
        return usual * _sgd(options), ""
    if facts.probe >= _EASY:
        return 0.3 * usual * _sgd(
            options
        ), f"frozen features do the task already (a probe's score is {facts.probe:.2f})"
    if facts.probe < _HARD and facts.modality == "image":
        return 2 * usual * _sgd(options), f"frozen features do not suffice (a probe's score is {facts.probe:.2f})"
    return usual * _sgd(options), ""


def _layer_decay(options: FineTune, facts: Facts) -> Choice:
    deep = facts.modality != "tabular" and len(facts.card.stages) > 3
    if _is_scratch(options) or options.lora_rank or not deep:
        return 1.0, ""
    if facts.modality == "text":
        return 0.9, "usual for text encoders"
    if facts.probe is not None and facts.probe >= _EASY:
        return 0.8, "the first layers need not change where frozen features do the task"
    return 1.0, ""


def _lora_rank(options: FineTune, facts: Facts) -> Choice:
    if facts.modality != "text" or _is_scratch(options) or facts.card.parameters < _LARGE:
        return None, ""
    return 16, f"the network has {facts.card.parameters / 1e6:.0f} million parameters"


def _lora_alpha(options: FineTune, _facts: Facts) -> Choice:
    rank = options.lora_rank
    return 2.0 * rank if isinstance(rank, int) else 1.0, ""


def _weight_decay(options: FineTune, _facts: Facts) -> Choice:
    return (0.05, "all weights are learnt anew") if _is_scratch(options) else (0.01, "")


def _steps(options: FineTune, facts: Facts) -> int:
    assert isinstance(options.epochs, int)
    assert isinstance(options.batch_size, int)
    return options.epochs * math.ceil(facts.train_items / options.batch_size)


def _warmup(options: FineTune, facts: Facts) -> Choice:
    return (0.2, "there are few steps") if _steps(options, facts) < 100 else (0.1, "")


def _label_smoothing(_options: FineTune, facts: Facts) -> Choice:
    return (0.1, "") if facts.problem == "classification" else (0.0, "")


def _class_weights(_options: FineTune, facts: Facts) -> Choice:
    counts = [count for count in facts.class_counts if count]
    if facts.problem != "classification" or len(counts) < 2 or max(counts) <= _UNEVEN * min(counts):
        return "none", ""
    return "balanced", f"the largest class has {max(counts)} training items, the smallest {min(counts)}"


def _augmentation(options: FineTune, facts: Facts) -> Choice:
    if facts.modality != "image":
        return "none", ""
    if options.freeze == "all" and not _is_scratch(options):
        return "none", "only the head is trained, on features that are computed once"
    if facts.device == "cuda" and facts.train_items >= 5_000:
        return "rand_augment", "there are enough items, and a GPU"
    if not _is_scratch(options) and facts.probe is not None and facts.probe >= _EASY:
        return "light", "frozen features do the task already"
    return "standard", ""


def _mixup(options: FineTune, facts: Facts) -> Choice:
    if (
        _is_scratch(options)
        and facts.modality == "image"
        and facts.problem != "regression"
        and facts.train_items >= FEW
    ):
        return 0.2, "all weights are learnt anew"
    return 0.0, ""


def _ema(options: FineTune, facts: Facts) -> Choice:
    steps = _steps(options, facts)
    if steps < 50:
        return None, f"{steps} steps are too few to average over"
    return round(min(max(1 - 10 / steps, 0.9), 0.999), 4), f"a tenth of {steps} steps"


def _early_stop(options: FineTune, _facts: Facts) -> Choice:
    assert isinstance(options.epochs, int)
    return max(3, options.epochs // 3), ""


def _batch_norm(options: FineTune, facts: Facts) -> Choice:
    assert isinstance(options.batch_size, int)
    if _is_scratch(options):
        return "train", ""
    if options.head_start:  # it was fitted to features made with them: other statistics make other features
        return "frozen", ""
    few = facts.train_items < FEW or options.batch_size < SMALL_BATCH
    return ("frozen", "items or batches are few") if few else ("train", "")


def _devices(options: FineTune, facts: Facts) -> Choice:
    assert isinstance(options.batch_size, int)
    if facts.device != "cuda":
        return 1, ""
    count = max(1, min(facts.gpus, options.batch_size // 8))
    return count, f"{facts.gpus} GPUs are visible" if facts.gpus > 1 else ""


RULES: dict[str, Rule] = {
    "lora_rank": _lora_rank,
    "lora_alpha": _lora_alpha,
    "batch_size": _batch_size,
    "head_scale": _head_scale,
    "epochs": _epochs,
    "head_lr": _head_lr,
    "backbone_lr": _backbone_lr,
    "layer_decay": _layer_decay,
    "weight_decay": _weight_decay,
    "warmup": _warmup,
    "label_smoothing": _label_smoothing,
    "class_weights": _class_weights,
    "augmentation": _augmentation,
    "mixup": _mixup,
    "ema": _ema,
    "early_stop": _early_stop,
    "batch_norm": _batch_norm,
    "devices": _devices,
}
"""In the order in which they are decided: a later one sees what became of those before it."""
