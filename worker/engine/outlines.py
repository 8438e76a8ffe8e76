"""Outlines: ONNX graphs without their weights, so that the next network of the same build needs no export.

The exporter traces a network for seconds, and finds the same graph whatever the weights are. What is kept is its graph
before any weight was folded into another; `fill` puts a network's own in. An outline is a guess: whoever fills one
compares the outcome with PyTorch.
"""

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from worker.engine.cache import CacheFolder

_MOST = 16  # that a process keeps at hand
_KIND = "outlines"
_at_hand: OrderedDict[str, bytes] = OrderedDict()


def key(module: nn.Module, toolchain: str, inputs: str) -> str:
    """What the graph depends on: the exporter, the inputs, all parts with their settings, and fixed buffers."""
    state = module.state_dict()
    parts = [toolchain, inputs, repr(module)]
    parts += [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in state.items()]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name, buffer in module.named_buffers():
        if name not in state:
            digest.update(name.encode())
            digest.update(buffer.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find(name: str, cache: CacheFolder | None) -> onnx.ModelProto | None:
    """The outline of that key."""
    data = _at_hand.get(name)
    if data is None and cache is not None:
        path = cache.get(_KIND, name)
        data = None if path is None else path.read_bytes()
    if data is None:
        return None
    _hold(name, data)
    return onnx.load_model_from_string(data)


def keep(name: str, model: onnx.ModelProto, module: nn.Module, cache: CacheFolder | None) -> None:
    """Keep the graph of a network without its weights; not if one of them is not found in it as it is."""
    state = module.state_dict()
    own = [tensor for tensor in model.graph.initializer if tensor.name in state]
    for tensor in own:
        if not np.array_equal(numpy_helper.to_array(tensor), state[tensor.name].detach().cpu().numpy()):
            return
    # The weights leave the graph for a moment: a second graph would hold them all once more.
    for tensor in own:
        tensor.raw_data = b""
    data = model.SerializeToString()
    fill(model, module)
    _hold(name, data)
    if cache is not None:
        cache.put(_KIND, name, lambda path: _write(path, data))


def forget(name: str, cache: CacheFolder | None) -> None:
    """Drop an outline that misled."""
    _at_hand.pop(name, None)
    if cache is not None:
        cache.remove(_KIND, name)


def fill(outline: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """The outline with the weights of the network, in place."""
    state = module.state_dict()
    for tensor in outline.graph.initializer:
        if tensor.name in state:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].detach().cpu().numpy(), tensor.name))
    return outline


def _hold(name: str, data: bytes) -> None:
    _at_hand[name] = data
    _at_hand.move_to_end(name)
    while len(_at_hand) > _MOST:
        _at_hand.popitem(last=False)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
