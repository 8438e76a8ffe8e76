"""ONNX Runtime sessions on the CPU, all opened the same way."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]
"""A batch: a network's inputs by name."""


def open_session(graph: Path, threads: int = 1) -> ort.InferenceSession:
    """A session on that graph; one `run` uses `threads` cores. `run` may be called from several threads at once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait must not burn the cores that others decode with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def try_graph(graph: Path, outputs: list[str], batches: list[Feed]) -> list[list[Floats]] | str:
    """Outputs of a graph for each batch, or a sentence's end that says why it does not run."""
    try:
        session = open_session(graph)
        return [session.run(outputs, batch) for batch in batches]
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        return f"ONNX Runtime refuses it: {str(error).strip()[:200]}"
