"""A head as ONNX nodes: its stages, its normalisation, its affine map."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from worker.engine.class_stages import LEAST as LEAST_LIKENESS
from worker.engine.class_stages import Centred, Distances, Likeness, Relation
from worker.engine.heads import LEAST, Head, Mixture
from worker.engine.stages import EPSILON, Affine, Nearest, RbfKernel, Relu, Stage, Unit


@dataclass
class Nodes:
    """Nodes in the order they run, with their tensors; every name begins with what it belongs to."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One more node; returns its output's name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def keep(self, name: str, value: NDArray[Any]) -> str:
        """One more tensor; returns its name."""
        self.tensors[name] = np.ascontiguousarray(value)
        return name


def head_nodes(into: Nodes, head: Head, start: str, prefix: str, answer: str, *, inner: str | None = None) -> None:
    """Append what leads from `start` (N, D) to `answer`, the logits (N, C); `inner` is to name `head.inner(start)`."""
    for number, stage in enumerate(head.before):
        if inner is not None and number == head.compared_at:
            into.add("Identity", [start], inner)
        start = _STAGES[stage.kind](into, stage, start, f"{prefix}before.{number}.")
    if inner is not None and head.compared_at == len(head.before):
        into.add("Identity", [start], inner)
    if head.mean is not None:
        start = into.add("Sub", [start, into.keep(f"{prefix}mean", head.mean)], f"{prefix}centred")
    if head.normalise in {"l2", "centred_l2"}:
        start = _unit(into, Unit(), start, prefix)
    elif head.scale is not None:
        start = into.add("Div", [start, into.keep(f"{prefix}scale", head.scale)], f"{prefix}input")
    weight, bias = into.keep(f"{prefix}weight", head.weight), into.keep(f"{prefix}bias", head.bias)
    into.add("Gemm", [start, weight, bias], answer, transB=1)


def _unit(into: Nodes, _stage: Stage, start: str, prefix: str) -> str:
    epsilon = into.keep(f"{prefix}epsilon", np.array(EPSILON, dtype=np.float32))
    axis = into.keep(f"{prefix}axis", np.array([1], dtype=np.int64))
    norm = into.add("ReduceL2", [start, axis], f"{prefix}norm", keepdims=1)
    return into.add("Div", [start, into.add("Max", [norm, epsilon], f"{prefix}safe_norm")], f"{prefix}input")


def _affine(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Affine)
    weight, bias = into.keep(f"{prefix}weight", stage.weight), into.keep(f"{prefix}bias", stage.bias)
    return into.add("Gemm", [start, weight, bias], f"{prefix}out", transB=1)


def _relu(into: Nodes, _stage: Stage, start: str, prefix: str) -> str:
    return into.add("Relu", [start], f"{prefix}out")


def _distances(into: Nodes, items: NDArray[np.float32], name: str, start: str, prefix: str) -> str:
    """Squared distances (N, M) to items (M, D)."""
    axis = into.keep(f"{prefix}axis", np.array([1], dtype=np.int64))
    own = into.add("ReduceSumSquare", [start, axis], f"{prefix}squares", keepdims=1)
    theirs = into.keep(f"{prefix}item_squares", np.square(items).sum(axis=1))
    cross = into.add(
        "Gemm", [start, into.keep(f"{prefix}{name}", items), theirs], f"{prefix}cross", alpha=-2.0, transB=1
    )
    total = into.add("Add", [own, cross], f"{prefix}distances")
    return into.add("Relu", [total], f"{prefix}positive")


def _rbf(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, RbfKernel)
    found = _distances(into, stage.landmarks, "landmarks", start, prefix)
    gamma = into.keep(f"{prefix}gamma", np.array(-stage.gamma, dtype=np.float32))
    return into.add("Exp", [into.add("Mul", [found, gamma], f"{prefix}exponent")], f"{prefix}out")


def _nearest(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Nearest)
    found = _distances(into, stage.items, "items", start, prefix)
    counts = into.keep(f"{prefix}counts", np.array(stage.counts, dtype=np.int64))
    parts = [f"{prefix}class.{number}" for number in range(len(stage.counts))]
    into.nodes.append(helper.make_node("Split", [found, counts], parts, axis=1))
    axis = into.keep(f"{prefix}over", np.array([1], dtype=np.int64))
    least = [into.add("ReduceMin", [part, axis], f"{part}.least", keepdims=1) for part in parts]
    return into.add("Neg", [into.add("Concat", least, f"{prefix}least", axis=1)], f"{prefix}out")


def _mixture(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Mixture)
    parts = []
    for number, head in enumerate(stage.heads):
        own = f"{prefix}heads.{number}."
        head_nodes(into, head, start, own, f"{own}logits")
        temperature = into.keep(f"{own}temperature", np.array(stage.temperatures[number], dtype=np.float32))
        share = into.keep(f"{own}share", np.array(stage.shares[number], dtype=np.float32))
        scaled = into.add("Div", [f"{own}logits", temperature], f"{own}scaled")
        parts.append(into.add("Mul", [into.add("Softmax", [scaled], f"{own}odds", axis=1), share], f"{own}part"))
    least = into.keep(f"{prefix}least", np.array(LEAST, dtype=np.float32))
    total = into.add("Max", [into.add("Sum", parts, f"{prefix}sum"), least], f"{prefix}probabilities")
    return into.add("Log", [total], f"{prefix}out")


def _centred(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Centred)
    return into.add("Sub", [start, into.keep(f"{prefix}mean", stage.mean)], f"{prefix}out")


def _means(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    """From tensors as they are kept, and nothing that follows from them: so they can be exchanged in the graph."""
    assert isinstance(stage, Distances)
    axis = into.keep(f"{prefix}axis", np.array([1], dtype=np.int64))
    own = into.add("ReduceSumSquare", [start, axis], f"{prefix}squares", keepdims=1)
    means = into.keep(f"{prefix}means", stage.means)
    theirs = into.add("ReduceSumSquare", [means, axis], f"{prefix}mean_squares", keepdims=0)
    cross = into.add("Gemm", [start, means, theirs], f"{prefix}cross", alpha=-2.0, transB=1)
    total = into.add("Relu", [into.add("Add", [own, cross], f"{prefix}sum")], f"{prefix}positive")
    return into.add("Neg", [total], f"{prefix}out")


def _likeness(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Likeness)
    unit = _unit(into, Unit(), start, prefix)
    items, member = into.keep(f"{prefix}items", stage.items), into.keep(f"{prefix}member", stage.member)
    less = into.keep(f"{prefix}less", np.array(-stage.scale, dtype=np.float32))
    near = into.add("Gemm", [unit, items, less], f"{prefix}near", alpha=stage.scale, transB=1)
    share = into.add("MatMul", [into.add("Exp", [near], f"{prefix}attention"), member], f"{prefix}share")
    least = into.keep(f"{prefix}least", np.array(LEAST_LIKENESS, dtype=np.float32))
    return into.add("Log", [into.add("Max", [share, least], f"{prefix}safe_share")], f"{prefix}out")


def _relation(into: Nodes, stage: Stage, start: str, prefix: str) -> str:
    assert isinstance(stage, Relation)
    kept = {name: into.keep(f"{prefix}{name}", part) for name, part in stage.tensors().items()}
    item = into.add("Unsqueeze", [start, into.keep(f"{prefix}one", np.array([1]))], f"{prefix}items")
    mean = into.add("Unsqueeze", [kept["means"], into.keep(f"{prefix}zero", np.array([0]))], f"{prefix}classes")
    apart = into.add("Abs", [into.add("Sub", [item, mean], f"{prefix}difference")], f"{prefix}distance")
    told = {"item": item, "mean": mean, "apart": apart, "product": into.add("Mul", [item, mean], f"{prefix}products")}
    total = kept["bias"]
    for name, figures in told.items():
        weight = into.add("Transpose", [kept[name]], f"{prefix}{name}.turned", perm=[1, 0])
        part = into.add("MatMul", [figures, weight], f"{prefix}{name}.part")
        total = into.add("Add", [total, part], f"{prefix}{name}.sum")
    return into.add("MatMul", [into.add("Relu", [total], f"{prefix}hidden"), kept["out_weight"]], f"{prefix}out")


_STAGES: dict[str, Callable[[Nodes, Stage, str, str], str]] = {
    Affine.kind: _affine,
    Unit.kind: _unit,
    Relu.kind: _relu,
    RbfKernel.kind: _rbf,
    Nearest.kind: _nearest,
    Mixture.kind: _mixture,
    Centred.kind: _centred,
    Distances.kind: _means,
    Likeness.kind: _likeness,
    Relation.kind: _relation,
}
