"""What becomes of `auto` in the options of deep domain adaptation, as far as the cost of a job depends on it.

The worker's own rules stand in `worker.engine.methods.settling`; a test holds the two together.
"""

from typing import Any

from core.contract.methods.deep import DeepAdaptation
from core.contract.prepare import ImagePrepare
from core.estimating.work import Device, Work

_STEPS = {"frozen": 600, "network": 1000, "scratch": 1200}
_FEW = 1000  # training items from which on batches are larger
_SMALL = 64  # pixels of a small picture


def settled(options: DeepAdaptation, work: Work, device: Device) -> dict[str, Any]:
    """The options with nothing left open that costs anything."""
    scratch = from_scratch(options, work)
    usual = "all" if device.kind == "cpu" and not scratch else "none"
    freeze = usual if options.freeze == "auto" else options.freeze
    kind = "scratch" if scratch else "frozen" if freeze == "all" else "network"
    size = _batch_size(work) if options.batch_size == "auto" else options.batch_size
    steps = -(-max(1, work.train) // size)
    epochs = min(200, max(6, round(_STEPS[kind] / steps))) if options.epochs == "auto" else options.epochs
    averaged = 0.99 if epochs * steps >= 100 else None
    augmentation = _augmentation(work) if options.augmentation == "auto" else options.augmentation
    return options.model_dump(mode="json") | {
        "freeze": freeze,
        "batch_size": size,
        "epochs": epochs,
        "augmentation": "none" if kind == "frozen" else augmentation,
        "ema": averaged if options.ema == "auto" else options.ema,
    }


def from_scratch(options: DeepAdaptation, work: Work) -> bool:
    """Whether the network starts from random weights: asked for, or an image network without others."""
    bare = work.card is not None and work.card.weights.source == "none" and work.modality == "image"
    return options.init == "scratch" or (bare and not work.base.startswith("mdl_"))


def _batch_size(work: Work) -> int:
    return 64 if work.train >= _FEW or work.outputs > 32 else 32


def _augmentation(work: Work) -> str:
    prepare = work.card.prepare if work.card else None
    if work.modality != "image":
        return "none"
    return "affine" if isinstance(prepare, ImagePrepare) and prepare.size <= _SMALL else "standard"
