"""ONNX graphs: a frozen backbone is exported once and kept; a head is joined to it without another export.

The exporter is torch's own (`dynamo=True`). The older one is several times quicker (1.1 s against 6.4 s for
EfficientNet-Lite0), but torch has announced its removal, and a backbone is exported only once.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from core.contract.base_models import BaseModelCard
from core.contract.datasets import Problem
from core.contract.errors import JobError
from worker.engine import tabular_graph
from worker.engine.backbones.backbone import Base, Identity
from worker.engine.backbones.signature import Signature, shape_key, signature
from worker.engine.cache import CacheFolder
from worker.engine.head_graph import Nodes, head_nodes
from worker.engine.heads import Head
from worker.engine.sessions import Feed, try_graph

OPSET = 18
_FORM = "1"  # rises when graphs made here change
_ANSWER = "graft.answer"  # no part of a network is called so
_PARITY = 1e-4  # of the largest figure in the embedding


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
    graph = cache.get("backbone_graphs", key) or cache.put("backbone_graphs", key, lambda path: _export(base, path))
    tensors = cache.get("backbone_tensors", key) or cache.put("backbone_tensors", key, lambda path: _save(base, path))
    return BackboneFiles(graph, tensors)


def backbone_graph(base: Base, cache: CacheFolder) -> Path:
    """`backbone_files(...).graph`."""
    return backbone_files(base, cache).graph


def known_graph(base: Base, cache: CacheFolder) -> Path | None:
    """The backbone's graph if it is in the cache; its bytes are not checked."""
    return cache.get("backbone_graphs", _key(base.identity), check=False)


@once
def _toolchain() -> str:
    return ":".join([_FORM, str(OPSET), *(version(name) for name in ("torch", "onnx", "onnxscript"))])


def _key(identity: Identity) -> str:
    return f"{_toolchain()}:{identity.key}:{shape_key(identity.card.prepare)}"


def _save(base: Base, path: Path) -> None:
    tensors = base.backbone().module.state_dict()
    save_file({f"backbone.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _export(base: Base, path: Path) -> None:
    backbone = base.backbone()
    export_backbone(backbone.module, backbone.card, path)


def export_backbone(module: nn.Module, card: BaseModelCard, path: Path) -> None:
    """Write the network as ONNX with a free batch size, checked against torch. The network is moved to the CPU."""
    inputs = signature(card.prepare)
    tried = tuple(torch.cat([part, part.flip(0)[:1]]) for part in inputs.example)
    on_cpu = module.to("cpu").eval()
    try:
        with _quiet(), torch.no_grad():
            model = _model(on_cpu, inputs, card)
            expected = on_cpu(*tried).numpy()
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise JobError(
            f"{card.architecture} cannot be exported to ONNX.",
            code="export_failed",
            param="base_model",
            hint="Choose another base model; GET /base-models lists those that are known to work.",
            details={"reason": str(error)[:300]},
        ) from error
    _write(model, path)
    feed = {name: part.numpy() for name, part in zip(inputs.names, tried, strict=True)}
    _same(path, feed, expected, card)


def _model(module: nn.Module, inputs: Signature, card: BaseModelCard) -> onnx.ModelProto:
    """The graph of a network on the CPU."""
    if card.builder == "tabular":
        widths = [part.shape[1] for part in inputs.example]
        return tabular_graph.write(module, inputs.names, widths, card.width, OPSET)
    program = torch.onnx.export(
        module,
        inputs.example,
        input_names=list(inputs.names),
        output_names=[_ANSWER],
        dynamic_shapes=inputs.dynamic_shapes(),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return _named(program.model_proto)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The exporter calls what comes out of a table of embeddings `embedding`; that is to be the network's answer."""
    names = {"embedding": "table.embedding", _ANSWER: "embedding"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*model.graph.value_info, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks and warns about its own inner workings: nobody who trains a model can act on that."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _same(path: Path, feed: Feed, expected: np.ndarray, card: BaseModelCard) -> None:
    ran = try_graph(path, ["embedding"], [feed])
    if isinstance(ran, str):
        raise _unequal(card, ran)
    found = ran[0][0]
    if found.shape != (len(expected), card.width) or not np.isfinite(found).all():
        raise _unequal(card, f"shape {found.shape}")
    worst = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-6)
    if not worst <= _PARITY:
        raise _unequal(card, f"relative difference {worst:.1e}")


def _unequal(card: BaseModelCard, what: str) -> JobError:
    return JobError(
        f"The exported graph of {card.architecture} does not agree with PyTorch ({what}).",
        code="parity_failed",
        param="base_model",
        hint="Choose another base model.",
    )


INNER = "inner"


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
    _write(model, out)


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


def _write(model: onnx.ModelProto, path: Path) -> None:
    """Check the graph and write it as one file; it is serialised once only, which is what takes the time."""
    try:
        data = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise JobError(
            "The network is too large for one ONNX file (2 GiB).",
            code="export_failed",
            param="base_model",
            hint="Choose a smaller base model.",
        ) from error
    onnx.checker.check_model(data)
    path.write_bytes(data)


def export_whole(
    backbone_module: nn.Module,
    head: Head,
    temperature: float,
    card: BaseModelCard,
    out: Path,
    *,
    problem: Problem = "classification",
    few_shot: bool = False,
) -> None:
    """Export a network that was trained as a whole: its backbone afresh, then the head joined to it."""
    with TemporaryDirectory(dir=out.parent) as folder:
        bare = Path(folder) / "backbone.onnx"
        export_backbone(backbone_module, card, bare)
        join_head(bare, head, temperature, out, problem, few_shot=few_shot)
