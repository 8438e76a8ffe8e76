"""ONNX graphs of the networks for tables, written node by node.

torch's exporter needs seconds for them, as for a network a thousand times their size; so they are written here, and
compared with torch like any other before they are used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from worker.engine.backbones.tabular import CATEGORY, Block, Encoded, Mlp

Arrays = dict[str, np.ndarray]


class _Graph:
    """Nodes and constants as they are added; a step is named by the figure it makes."""

    def __init__(self, tensors: Arrays) -> None:
        self.tensors = dict(tensors)
        self.nodes: list[onnx.NodeProto] = []

    def add(self, kind: str, inputs: Sequence[str], name: str, **options: Any) -> str:
        """One node; returns its output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **options))
        return name

    def constant(self, name: str, values: object, kind: type = np.int64) -> str:
        """A tensor that is no tensor of the network."""
        self.tensors[name] = np.array(values, dtype=kind)
        return name

    def encoded(self, prefix: str, names: Sequence[str], name: str) -> str:
        """`Encoded`."""
        parts = [part for part in names if part == "numbers"]
        if "categories" in names:
            picked = self.add("Gather", ["categories", f"{prefix}columns"], f"{name}.picked", axis=1)
            same = self.add("Equal", [picked, f"{prefix}values"], f"{name}.same")
            parts.append(self.add("Cast", [same], f"{name}.hot", to=TensorProto.FLOAT))
        return self.add("Concat", parts, name, axis=1)

    def linear(self, prefix: str, x: str, name: str) -> str:
        """`nn.Linear`."""
        return self.add("Gemm", [x, f"{prefix}.weight", f"{prefix}.bias"], name, transB=1)

    def norm(self, layer: nn.LayerNorm, prefix: str, x: str, name: str) -> str:
        """`nn.LayerNorm`."""
        inputs = [x, f"{prefix}.weight", f"{prefix}.bias"]
        return self.add("LayerNormalization", inputs, name, axis=-1, epsilon=layer.eps)

    def block(self, block: Block, prefix: str, x: str) -> str:
        """`Block`, without dropout."""
        up = self.linear(f"{prefix}.up", self.norm(block.norm, f"{prefix}.norm", x, f"{prefix}.n"), f"{prefix}.u")
        changed = self.linear(f"{prefix}.down", self.add("Relu", [up], f"{prefix}.r"), f"{prefix}.d")
        return self.add("Add", [x, changed], f"{prefix}.x")

    def mlp(self, module: Mlp, names: Sequence[str]) -> None:
        """`Mlp`."""
        parts = [part for part in names if part == "numbers"]
        if "categories" in names:
            place = self.add("Add", ["categories", "offsets"], "places")
            rows = self.add("Gather", ["table.weight", place], "rows", axis=0)
            shape = self.constant("flat", [-1, module.category_columns * CATEGORY])
            parts.append(self.add("Reshape", [rows, shape], "embedded"))
        x = self.linear("mix", self.add("Concat", parts, "inputs", axis=1), "mixed")
        for number, block in enumerate(module.blocks):
            assert isinstance(block, Block)
            x = self.block(block, f"blocks.{number}", x)
        deep = self.add("Relu", [self.norm(module.norm, "norm", x, "normed")], "deep")
        self.add("Concat", [deep, self.encoded("encoded.", names, "wide")], "embedding", axis=1)


def write(module: nn.Module, names: Sequence[str], widths: Sequence[int], width: int, opset: int) -> onnx.ModelProto:
    """The network as ONNX: inputs of those names (batch, their widths) -> `embedding` (batch, width)."""
    graph = _Graph({name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()})
    if isinstance(module, Encoded):
        graph.encoded("", names, "embedding")
    elif isinstance(module, Mlp):
        graph.mlp(module, names)
    else:
        raise TypeError(f"not a network for tables: {type(module).__name__}")
    used = {name for node in graph.nodes for name in node.input}
    kinds = {"numbers": TensorProto.FLOAT, "categories": TensorProto.INT64}
    made = helper.make_graph(
        graph.nodes,
        "table",
        [
            helper.make_tensor_value_info(name, kinds[name], ["batch", size])
            for name, size in zip(names, widths, strict=True)
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(array, name) for name, array in graph.tensors.items() if name in used],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
