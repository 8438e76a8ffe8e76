"""A model's ONNX graph with other tensors in its head: initialisers are exchanged, nothing is exported."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ANSWERS = ("probabilities", "logits")


def exchanged(graph: bytes, changed: Mapping[str, NDArray[np.float32]], classes: int) -> bytes:
    """The graph with initialisers `changed`, which are looked up by name, answering with so many classes.

    `ValueError` where it is no graph, or lacks one of them.
    """
    import onnx  # takes a while, and only who changes a model needs it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except DecodeError as error:
        raise ValueError("no ONNX graph") from error
    known = {one.name: one for one in model.graph.initializer}
    for name, part in changed.items():
        if name not in known:
            raise ValueError(f"the graph has no initialiser {name}")
        known[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(part), name))
    for output in model.graph.output:
        if output.name in ANSWERS:
            output.type.tensor_type.shape.dim[1].dim_value = classes
    found: bytes = model.SerializeToString()
    return found
