"""ONNX Runtime sessions on the CPU, all opened the same way."""

from pathlib import Path

import onnxruntime as ort


def open_session(graph: Path, threads: int = 1) -> ort.InferenceSession:
    """A session on that graph; one `run` uses `threads` cores. `run` may be called from several threads at once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait must not burn the cores that others decode with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
