"""Every model that leaves is checked: its graph must say what PyTorch said, on real items."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.models import Parity
from worker.engine.sessions import try_graph

Floats = NDArray[np.float32]


def check(onnx_path: Path, reference_probabilities: Floats, images: Floats, tolerance: float = 1e-4) -> Parity:
    """Compare the exported graph's `probabilities` (N, C) on `images` (N, 3, S, S) with the reference.

    Raises `JobError` `parity_failed` if one differs by more than `tolerance`, is not finite or has another shape.
    """
    if len(images) == 0:
        raise ValueError("a parity check needs at least one item")
    # One alone and all at once: the graph must not depend on the batch size it was traced with.
    ran = try_graph(onnx_path, ["probabilities"], [images, images[:1]])
    if isinstance(ran, str):
        raise _failed(ran)
    (batch,), (single,) = ran
    if batch.shape != reference_probabilities.shape or not np.isfinite(batch).all():
        raise _failed(f"shape {batch.shape} for {reference_probabilities.shape}, or figures that are not finite")
    worst = float(
        max(np.abs(batch - reference_probabilities).max(), np.abs(single - reference_probabilities[:1]).max())
    )
    if not worst <= tolerance:
        raise _failed(f"a probability differs by {worst:.2g}, more than {tolerance:.0e}")
    return Parity(items=len(images), max_abs_difference=worst, tolerance=tolerance)


def _failed(what: str) -> JobError:
    return JobError(
        f"The exported model does not agree with the trained one: {what}.",
        code="parity_failed",
        hint="The model was not stored. Try another base model, and report this one with its name.",
    )
