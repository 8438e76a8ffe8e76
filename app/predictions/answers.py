"""From a network's figures to an answer in the user's words."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract.models import ItemError, LabelScore, ModelManifest, Prediction

DEFAULT_TOP = 5
_SURE = 0.5


def outputs_of(manifest: ModelManifest) -> dict[str, int]:
    """The outputs that an answer is made of, and how many figures each has for an item."""
    if manifest.problem == "regression":
        return {"value": 1}
    found = {"probabilities": len(manifest.classes)}
    return found if least_logit(manifest) is None else found | {"logits": len(manifest.classes)}


def least_logit(manifest: ModelManifest) -> float | None:
    """What the highest logit of an item has to be that is to be one of the classes; None where nothing is known."""
    return None if manifest.few_shot is None else manifest.few_shot.least_logit


def answer(
    index: int, name: str | None, figures: NDArray[np.float32], manifest: ModelManifest, top_k: int
) -> Prediction:
    """The answer for one item from its figures: probabilities (C,), which logits (C,) may follow, or a value (1,)."""
    if not np.isfinite(figures).all():
        said = ItemError(code="not_finite", message="The model's answer to this item is not a number.", hint=None)
        return Prediction(index=index, name=name, error=said)
    if manifest.problem == "regression":
        return Prediction(index=index, name=name, **_value(float(figures[0]), manifest.residual))
    classes = manifest.classes
    figures, logits = np.split(figures, [len(classes)])
    best = np.argsort(-figures, kind="stable")
    top = [LabelScore(label=classes[i], probability=float(figures[i])) for i in best[:top_k]]
    if manifest.problem == "multi_label":
        labels = [classes[i] for i in best if figures[i] > _SURE]
        return Prediction(index=index, name=name, labels=labels, top=top)
    least = least_logit(manifest)
    if least is not None and logits.max() < least:
        return Prediction(index=index, name=name, top=top, none_of_these=True)
    known = None if least is None else False
    sure = top[0]
    return Prediction(
        index=index, name=name, label=sure.label, probability=sure.probability, top=top, none_of_these=known
    )


def _value(value: float, residual: float | None) -> dict[str, Any]:
    if residual is None:
        return {"value": value}
    return {"value": value, "low": value - residual, "high": value + residual}
