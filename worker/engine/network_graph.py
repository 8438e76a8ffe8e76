"""A network as an ONNX graph, compared with PyTorch.

The exporter is torch's own (`dynamo=True`). The older one is several times quicker (1.1 s against 6.4 s for
EfficientNet-Lite0), but torch has announced its removal, and a network of a build is traced only once.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import cache as once
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnxscript import optimizer
from torch import nn

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from worker.engine import outlines, tabular_graph
from worker.engine.backbones.signature import Signature, shape_key, signature
from worker.engine.cache import CacheFolder
from worker.engine.sessions import Feed, try_graph

OPSET = 18
_FORM = "1"  # rises when graphs made here change
_ANSWER = "graft.answer"  # no part of a network is called so
_PARITY = 1e-4  # of the largest figure in the embedding


@once
def toolchain() -> str:
    """What an exported graph depends on beside the network and its inputs."""
    return ":".join([_FORM, str(OPSET), *(version(name) for name in ("torch", "onnx", "onnxscript"))])


def export_backbone(module: nn.Module, card: BaseModelCard, path: Path, cache: CacheFolder | None = None) -> None:
    """Write the network as ONNX with a free batch size, checked against torch. The network is moved to the CPU.

    Another network of the same build, in this process or with this `cache`, lends its outline.
    """
    inputs = signature(card.prepare)
    tried = tuple(torch.cat([part, part.flip(0)[:1]]) for part in inputs.example)
    feed = {name: part.numpy() for name, part in zip(inputs.names, tried, strict=True)}
    on_cpu = module.to("cpu").eval()
    expected = _answered(on_cpu, tried, card)
    if card.builder == "tabular":
        widths = [part.shape[1] for part in inputs.example]
        write_graph(tabular_graph.write(on_cpu, inputs.names, widths, card.width, OPSET), path)
        return _same(path, feed, expected, card)
    key = outlines.key(on_cpu, toolchain(), shape_key(card.prepare))
    known = outlines.find(key, cache)
    if known is not None:
        try:
            write_graph(_folded(outlines.fill(known, on_cpu)), path)
            return _same(path, feed, expected, card)
        except (JobError, onnx.checker.ValidationError):
            outlines.forget(key, cache)
    model = _traced(on_cpu, inputs, card)
    outlines.keep(key, model, on_cpu, cache)
    write_graph(_folded(model), path)
    return _same(path, feed, expected, card)


def _answered(module: nn.Module, inputs: tuple[torch.Tensor, ...], card: BaseModelCard) -> np.ndarray:
    try:
        with torch.no_grad():
            answer: np.ndarray = module(*inputs).numpy()
    except RuntimeError as error:
        raise _failed(card, str(error)) from error
    return answer


def _traced(module: nn.Module, inputs: Signature, card: BaseModelCard) -> onnx.ModelProto:
    """The graph of a network on the CPU, its weights as they are."""
    try:
        with _quiet(), torch.no_grad():
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
                optimize=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise _failed(card, str(error)) from error
    if program is None:
        raise _failed(card, "torch.onnx.export returned no program")
    return _named(program.model_proto)


def _failed(card: BaseModelCard, reason: str) -> JobError:
    return JobError(
        f"{card.architecture} cannot be exported to ONNX.",
        code="export_failed",
        param="base_model",
        hint="Choose another base model; GET /base-models lists those that are known to work.",
        details={"reason": reason[:300]},
    )


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants folded and batch norms in the convolutions before them, as the exporter would do it."""
    with _quiet():
        found: onnx.ModelProto = optimizer.optimize(model)
    return found


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


def write_graph(model: onnx.ModelProto, path: Path) -> None:
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
