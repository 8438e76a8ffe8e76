"""Every model that leaves is checked: its graph must say what PyTorch said, on real items."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.models import Parity
from worker.engine.sessions import Feed, try_graph

Floats = NDArray[np.float32]


def check(onnx_path: Path, reference: Floats, batch: Feed, *, tolerance: float = 1e-4, value: bool = False) -> Parity:
    """Compare the exported graph's `probabilities` (N, C), or `value` (N, 1), on a batch with the reference.

    A value may differ by `tolerance` of the largest one.

    Raises `JobError` `parity_failed` if one differs by more than `tolerance`, is not finite or has another shape.
    """
    if len(reference) == 0:
        raise ValueError("a parity check needs at least one item")
    # One alone and all at once: the graph must not depend on the batch size it was traced with.
    ran = try_graph(onnx_path, ["value" if value else "probabilities"], [batch, _first(batch)])
    if isinstance(ran, str):
        raise _failed(ran)
    (whole,), (single,) = ran
    if whole.shape != reference.shape or not np.isfinite(whole).all():
        raise _failed(f"shape {whole.shape} for {reference.shape}, or figures that are not finite")
    allowed = tolerance * max(1.0, float(np.abs(reference).max())) if value else tolerance
    worst = float(max(np.abs(whole - reference).max(), np.abs(single - reference[:1]).max()))
    if not worst <= allowed:
        raise _failed(f"a {'value' if value else 'probability'} differs by {worst:.2g}, more than {allowed:.0e}")
    return Parity(items=len(reference), max_abs_difference=worst, tolerance=allowed)


def _first(batch: Feed) -> Feed:
    """Its first item alone. A text keeps the padding of the batch, which must not change the answer."""
    return {name: part[:1] for name, part in batch.items()}


def _failed(what: str) -> JobError:
    return JobError(
        f"The exported model does not agree with the trained one: {what}.",
        code="parity_failed",
        hint="The model was not stored. Try another base model, and report this one with its name.",
    )
