"""From a trained model to files that leave: graph, tensors, manifest and card, checked and put into one bundle."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from core.contract.models import Parity
from core.modality.image import prepare
from worker.engine import parity
from worker.engine.backbones import Base
from worker.engine.cache import CacheFolder
from worker.engine.data import Items
from worker.engine.graph import backbone_files, export_whole, join_head
from worker.engine.task import Trained
from worker.engine.tensors import join_tensors

Floats = NDArray[np.float32]
_CHECKED = 8  # held-out items that graph and PyTorch are compared on


def write(
    trained: Trained, base: Base, temperature: float, *, out: Path, cache: CacheFolder, metadata: dict[str, str]
) -> tuple[Path, Path]:
    """Write `model.onnx` and `model.safetensors` into `out`.

    A head on the frozen base model is joined to the base model's files in the cache; a trained network is exported
    afresh.
    """
    graph, tensors = out / "model.onnx", out / "model.safetensors"
    if trained.backbone is None:
        files = backbone_files(base, cache)
        join_head(files.graph, trained.head, temperature, graph)
        join_tensors(files.tensors, trained.head, tensors, metadata)
        return graph, tensors
    module = trained.backbone.module
    export_whole(module, trained.head, temperature, trained.backbone.card, graph)
    bare = out / "backbone.safetensors"
    state = module.state_dict()
    save_file({f"backbone.{name}": part.detach().cpu().contiguous() for name, part in state.items()}, bare)
    join_tensors(bare, trained.head, tensors, metadata)
    bare.unlink()
    return graph, tensors


def check(
    graph: Path, trained: Trained, base: Base, *, temperature: float, held_out: Items, features: Floats | None
) -> Parity:
    """Compare the graph with PyTorch on held-out items; `JobError` `parity_failed` if they differ.

    The reference is the trained network; with `features` (n, D) of the held-out items it is the head on them: they
    come from a graph that was compared with PyTorch when it was exported.
    """
    chosen = np.unique(np.linspace(0, len(held_out) - 1, min(_CHECKED, len(held_out))).round().astype(int))
    config = base.identity.card.prepare
    reader = held_out.collection.reader
    images = np.stack([prepare(reader.image(int(held_out.indices[i])), config) for i in chosen])
    with torch.inference_mode():
        if features is None:
            module = (trained.backbone or base.backbone()).module.to("cpu").eval()
            embedding = module(torch.from_numpy(images))
        else:
            embedding = torch.from_numpy(features[chosen])
        logits = trained.head.as_module()(embedding)
        reference = torch.softmax(logits / temperature, dim=1).numpy()
    return parity.check(graph, reference, images)
