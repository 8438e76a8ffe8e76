"""Networks of timm, by name. A network without a card of ours gets one from timm's own configuration."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import nn

from core.catalogue import TIMM_PREFIX
from core.contract.base_models import BaseModelCard, Weights
from core.contract.errors import JobError
from core.contract.prepare import ImagePrepare
from worker.engine.backbones.backbone import Stages, with_leftovers

_LISTS = ("blocks", "stages", "layers", "features")  # lists of blocks: each block is a stage of its own


def build(card: BaseModelCard) -> nn.Module:
    """The network with its classifier, with random weights."""
    module: nn.Module = timm.create_model(card.architecture, pretrained=False)
    return module


def behead(_card: BaseModelCard, module: Any) -> nn.Module:
    """Take the classifier off: the network then returns its embedding (N, D)."""
    module.reset_classifier(0)
    beheaded: nn.Module = module
    return beheaded


def rename(card: BaseModelCard, tensors: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """Tensors of a weights file under the network's names.

    The files of the packages hold the same network under another project's names, in the same order.
    """
    if card.weights.source == "package" and len(tensors) == len(names) and not set(tensors) & set(names):
        return dict(zip(names, tensors.values(), strict=True))
    return tensors


def stages(_card: BaseModelCard, module: nn.Module) -> Stages:
    """The network's parts from input to output, named as in the card."""
    return _stages(module)


def _stages(module: nn.Module) -> Stages:
    """Parts under timm's names; a norm belongs to the part before it."""
    found: Stages = []
    for name, child in _children(module):
        if not any(True for _ in child.parameters()):
            continue
        if found and (name.startswith(("bn", "norm", "fc_norm")) or "norm" in type(child).__name__.lower()):
            found[-1][1].append(child)
        else:
            found.append((name, [child]))
    return with_leftovers(module, found)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    parts = []
    for name, child in module.named_children():
        if name in _LISTS and isinstance(child, nn.Sequential | nn.ModuleList):
            parts += [(f"{name}.{number}", block) for number, block in child.named_children()]
        else:
            parts.append((name, child))
    return parts


def card(base_model: str) -> BaseModelCard:
    """A card for `timm:<name>`; `JobError` `unknown_base_model` with the nearest names if timm has no such network."""
    name = base_model.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        raise _unknown(name)
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None:
        raise _unknown(name)
    size = config.input_size[-1]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        module = timm.create_model(name, pretrained=False, num_classes=0).eval()
        shape = module(torch.zeros(1, *config.input_size)).shape
    if len(shape) != 2 or config.input_size[0] != 3:
        raise JobError(
            f"timm's {name} does not make one embedding of an RGB image.",
            code="base_model_unsuitable",
            param="base_model",
            hint="Choose a classification network.",
        )
    return BaseModelCard(
        id=base_model,
        title=f"{name} (timm)",
        builder="timm",
        architecture=name,
        width=shape[1],
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        stages=[stage for stage, _ in _stages(module)],
        prepare=ImagePrepare(
            size=size,
            crop=min(1.0, config.crop_pct),
            interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
            mean=config.mean,
            std=config.std,
        ),
        weights=Weights(source="timm", file=f"{name}.safetensors", entry=config.hf_hub_id or None),
        licence=config.license or "not stated; see timm",
        pretrained_on=config.tag or "see timm",
        paper=config.paper_name or "see timm",
    )


def _unknown(name: str) -> JobError:
    near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    return JobError(
        f"timm has no network {name!r}.",
        code="unknown_base_model",
        param="base_model",
        hint=f"Did you mean {' or '.join(TIMM_PREFIX + found for found in near)}?"
        if near
        else "See timm.list_models().",
        details={"nearest": [TIMM_PREFIX + found for found in near]},
    )
