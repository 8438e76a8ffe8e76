"""ONNX graphs: a frozen backbone is exported once and kept; a head is joined to it without another export."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from core.contract.base_models import BaseModelCard
from core.contract.datasets import Problem
from worker.engine.backbones.backbone import Base, Identity
from worker.engine.backbones.signature import shape_key
from worker.engine.cache import CacheFolder
from worker.engine.head_graph import Nodes, head_nodes
from worker.engine.heads import Head
from worker.engine.network_graph import export_backbone, toolchain, write_graph

INNER = "inner"


@dataclass(frozen=True)
class BackboneFiles:
    """A frozen backbone on disk."""

    graph: Path
    """ONNX, the inputs of `signature` -> `embedding` (N, D)."""
    tensors: Path
    """Safetensors, named `backbone.<name>`."""


def backbone_files(base: Base, cache: CacheFolder) -> BackboneFiles:
    """The backbone's graph and tensors, from the cache; the network is built and exported only if they are not there.

    The fresh graph is compared with torch on the same input: `JobError` `parity_failed`, or `export_failed`.
    """
    key = _key(base.identity)
    graph = cache.get("backbone_graphs", key) or cache.put(
        "backbone_graphs", key, lambda path: _export(base, path, cache)
    )
    tensors = cache.get("backbone_tensors", key) or cache.put("backbone_tensors", key, lambda path: _save(base, path))
    return BackboneFiles(graph, tensors)


def backbone_graph(base: Base, cache: CacheFolder) -> Path:
    """`backbone_files(...).graph`."""
    return backbone_files(base, cache).graph


def known_graph(base: Base, cache: CacheFolder) -> Path | None:
    """The backbone's graph if it is in the cache; its bytes are not checked."""
    return cache.get("backbone_graphs", _key(base.identity), check=False)


def _key(identity: Identity) -> str:
    return f"{toolchain()}:{identity.key}:{shape_key(identity.card.prepare)}"


def _save(base: Base, path: Path) -> None:
    tensors = base.backbone().module.state_dict()
    save_file({f"backbone.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _export(base: Base, path: Path, cache: CacheFolder) -> None:
    backbone = base.backbone()
    export_backbone(backbone.module, backbone.card, path, cache)


def output_names(problem: Problem, *, few_shot: bool = False) -> list[str]:
    """What a whole model's graph answers with; a few-shot one tells, too, what is compared with its classes."""
    found = ["value", "embedding"] if problem == "regression" else ["probabilities", "logits", "embedding"]
    return [*found, INNER] if few_shot else found


def join_head(
    backbone_onnx: Path,
    head: Head,
    temperature: float,
    out: Path,
    problem: Problem = "classification",
    *,
    few_shot: bool = False,
) -> None:
    """Add a head to an exported backbone by editing the graph, in milliseconds.

    Outputs: `probabilities` = softmax (for `multi_label` sigmoid) of logits / temperature and `logits`, both (N, C), or
    for a regression `value` (N, 1); and `embedding` (N, D). A `few_shot` head adds `inner` (N, K).
    """
    if not temperature > 0:
        raise ValueError("temperature must be positive")
    model = onnx.load_model(str(backbone_onnx), load_external_data=False)
    graph = model.graph
    width = graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    if width and width != head.width:
        raise ValueError(f"the head takes {head.width} figures, the backbone makes {width}")
    parts = _answer_nodes(head, temperature, problem, few_shot=few_shot)
    graph.node.extend(parts.nodes)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in parts.tensors.items())
    del graph.output[:]
    sizes = {"embedding": head.width, INNER: head.inner_width}
    for name in output_names(problem, few_shot=few_shot):
        shape: list[str | int | None] = ["batch", sizes.get(name, head.classes)]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    write_graph(model, out)


def _answer_nodes(head: Head, temperature: float, problem: Problem, *, few_shot: bool) -> Nodes:
    """Nodes from `embedding` to `probabilities` or `value`, with their tensors."""
    found = Nodes()
    answer = "value" if problem == "regression" else "logits"
    head_nodes(found, head, "embedding", "head.", answer, inner=INNER if few_shot else None)
    if problem != "regression":
        scale = found.keep("head.temperature", np.array(temperature, dtype=np.float32))
        found.add("Div", ["logits", scale], "head.scaled")
        if problem == "multi_label":
            found.add("Sigmoid", ["head.scaled"], "probabilities")
        else:
            found.add("Softmax", ["head.scaled"], "probabilities", axis=1)
    return found


def export_whole(
    backbone_module: nn.Module,
    head: Head,
    temperature: float,
    card: BaseModelCard,
    out: Path,
    *,
    problem: Problem = "classification",
    few_shot: bool = False,
    cache: CacheFolder | None = None,
) -> None:
    """Export a network that was trained as a whole: its backbone afresh, then the head joined to it."""
    with TemporaryDirectory(dir=out.parent) as folder:
        bare = Path(folder) / "backbone.onnx"
        export_backbone(backbone_module, card, bare, cache)
        join_head(bare, head, temperature, out, problem, few_shot=few_shot)
