"""From a trained model to files that leave: graph, tensors, manifest and card, checked and put into one bundle."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from core.contract.models import Parity
from worker.engine import parity
from worker.engine.backbones import Base
from worker.engine.cache import CacheFolder
from worker.engine.graph import backbone_files, export_whole, join_head
from worker.engine.heads import Head
from worker.engine.problems import probabilities
from worker.engine.task import Trained
from worker.engine.tensors import join_tensors

Floats = NDArray[np.float32]
_CHECKED = {"image": 8, "text": 4, "tabular": 8}  # items that graph and PyTorch are compared on


def write(
    trained: Trained,
    base: Base,
    head: Head,
    temperature: float,
    *,
    out: Path,
    cache: CacheFolder,
    metadata: dict[str, str],
) -> tuple[Path, Path]:
    """Write `model.onnx` and `model.safetensors` into `out`.

    `head` is the trained one as it is deployed. On the frozen base model it is joined to the base model's files in the
    cache; a trained network is exported afresh.
    """
    graph, tensors, problem = out / "model.onnx", out / "model.safetensors", trained.data.problem
    known = trained.few_shot
    more, few_shot = None if known is None else known.tensors, known is not None
    if trained.backbone is None:
        files = backbone_files(base, cache)
        join_head(files.graph, head, temperature, graph, problem, few_shot=few_shot)
        join_tensors(files.tensors, head, tensors, metadata, more)
        return graph, tensors
    module = trained.backbone.module
    card = trained.backbone.card
    export_whole(module, head, temperature, card, graph, problem=problem, few_shot=few_shot, cache=cache)
    bare = out / "backbone.safetensors"
    state = module.state_dict()
    save_file({f"backbone.{name}": part.detach().cpu().contiguous() for name, part in state.items()}, bare)
    join_tensors(bare, head, tensors, metadata, more)
    bare.unlink()
    return graph, tensors


def check(
    graph: Path, trained: Trained, base: Base, head: Head, *, temperature: float, features: Floats | None
) -> Parity:
    """Compare the graph with PyTorch on real items; `JobError` `parity_failed` if they differ.

    The reference is the trained network; with `features` (n, D) of the items it is the head on them: they
    come from a graph that was compared with PyTorch when it was exported.
    """
    items, problem = trained.data.tried, trained.data.problem
    most = min(_CHECKED[base.identity.card.modality], len(items))
    chosen = np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))
    preparer, reader = base.preparer(), items.collection.reader
    arrays = preparer.collate([preparer(reader.item(int(items.indices[i]))) for i in chosen])
    with torch.inference_mode():
        if features is None:
            module = (trained.backbone or base.backbone()).module.to("cpu").eval()
            embedding = module(*(torch.from_numpy(part) for part in arrays))
        else:
            embedding = torch.from_numpy(features[chosen])
        logits = head.as_module()(embedding).numpy()
    reference = probabilities(problem, logits, temperature).astype(np.float32)
    batch = dict(zip(preparer.names, arrays, strict=True))
    return parity.check(graph, reference, batch, value=problem == "regression")
