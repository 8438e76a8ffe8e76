"""From a network's figures to an answer in the user's words."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract.models import ItemError, LabelScore, ModelManifest, Prediction

DEFAULT_TOP = 5
_SURE = 0.5


def output_of(manifest: ModelManifest) -> tuple[str, int]:
    """The output that an answer is made of, and how many figures it has for each item."""
    return ("value", 1) if manifest.problem == "regression" else ("probabilities", len(manifest.classes))


def answer(
    index: int, name: str | None, figures: NDArray[np.float32], manifest: ModelManifest, top_k: int
) -> Prediction:
    """The answer for one item from its probabilities (C,) or value (1,)."""
    if not np.isfinite(figures).all():
        said = ItemError(code="not_finite", message="The model's answer to this item is not a number.", hint=None)
        return Prediction(index=index, name=name, error=said)
    if manifest.problem == "regression":
        return Prediction(index=index, name=name, **_value(float(figures[0]), manifest.residual))
    classes = manifest.classes
    best = np.argsort(-figures, kind="stable")
    top = [LabelScore(label=classes[i], probability=float(figures[i])) for i in best[:top_k]]
    if manifest.problem == "multi_label":
        labels = [classes[i] for i in best if figures[i] > _SURE]
        return Prediction(index=index, name=name, labels=labels, top=top)
    return Prediction(index=index, name=name, label=top[0].label, probability=top[0].probability, top=top)


def _value(value: float, residual: float | None) -> dict[str, Any]:
    if residual is None:
        return {"value": value}
    return {"value": value, "low": value - residual, "high": value + residual}
