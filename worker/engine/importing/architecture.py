"""Which tensors a network has: names, shapes and types of its state dict, from a network without memory."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import timm
import torch
from torch import nn

from core.catalogue import TIMM_PREFIX, cards, find, is_timm
from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from worker.engine.backbones import small, timm_, torchvision_
from worker.engine.importing.header import TensorEntry, shown

LISTED = 50
_TRACKED = "num_batches_tracked"  # counts steps of training; old files do not have it
_ALIKE = 0.5  # share of equal tensors from which on another network is suggested


@dataclass(frozen=True)
class Wanted:
    """What one tensor must be."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Anatomy:
    """The tensors of a network: those of its backbone, and those of its classifier."""

    backbone: dict[str, Wanted]
    head: dict[str, Wanted]
    linear: str | None
    """Where the classifier stands, if it is one linear layer."""


def family(builder: str) -> ModuleType:
    """The module that builds networks: `build`, `behead`."""
    if builder == "small":
        return small
    return timm_ if builder == "timm" else torchvision_


def anatomy(base_model: str) -> Anatomy:
    """The tensors of the network of that name; `unknown_base_model`."""
    card = _sketch(base_model)
    module = _weightless(card)
    whole = _wanted(module)
    kept = _wanted(family(card.builder).behead(card, _weightless(card)))
    head = {name: wanted for name, wanted in whole.items() if name not in kept}
    return Anatomy(kept, head, _linear(module, set(head)))


def card_of(base_model: str) -> BaseModelCard:
    """The card of the network of that name; for timm's own it is made by building the network and running it once."""
    return timm_.card(base_model) if is_timm(base_model) else find(base_model)


def _sketch(base_model: str) -> BaseModelCard:
    """A card that is enough to build the network."""
    if not is_timm(base_model):
        return _of_images(find(base_model))
    name = base_model.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        timm_.card(base_model)  # says which names are near
    return find("resnet18").model_copy(update={"id": base_model, "builder": "timm", "architecture": name})


def _of_images(card: BaseModelCard) -> BaseModelCard:
    if card.modality == "image":
        return card
    raise JobError(
        f"Weights for {card.id}, a network for {card.modality} data, cannot be imported.",
        code="import_unsupported",
        param="base_model",
        hint="Only those of networks for images can; a job that starts from it adapts it to your data.",
    )


def _weightless(card: BaseModelCard) -> nn.Module:
    build: Any = family(card.builder).build
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                module: nn.Module = build(card)
        except Exception:  # some networks look at their own values while they are built
            module = build(card)
    return module


def _wanted(module: nn.Module) -> dict[str, Wanted]:
    return {name: Wanted(tuple(tensor.shape), tensor.dtype) for name, tensor in module.state_dict().items()}


def _linear(module: nn.Module, head: set[str]) -> str | None:
    place = next(iter(head), "").rpartition(".")[0]
    if not place or head != {f"{place}.weight", f"{place}.bias"}:
        return None
    return place if isinstance(module.get_submodule(place), nn.Linear) else None


def check_names(found: dict[str, TensorEntry], wanted: dict[str, Wanted], base_model: str) -> None:
    """Raise `JobError` `weights_mismatch` with all that is missing, unexpected or of another shape."""
    missing = [name for name in wanted if name not in found and not name.endswith(_TRACKED)]
    unexpected = [name for name in found if name not in wanted]
    shapes = [
        {"name": name, "expected": list(want.shape), "found": list(found[name].shape)}
        for name, want in wanted.items()
        if name in found and found[name].shape != want.shape
    ]
    if not (missing or unexpected or shapes):
        return
    near = _nearest(found, base_model)
    counts = {"missing": len(missing), "unexpected": len(unexpected), "wrong_shape": len(shapes)}
    said = ", ".join(f"{count} {what.replace('_', ' of another ')}" for what, count in counts.items() if count)
    raise JobError(
        f"The tensors are not those of {base_model}: {said}, e.g. {_example(missing, unexpected, shapes)}.",
        code="weights_mismatch",
        param="base_model",
        hint=f"These look like the weights of {near}: send base_model={near}."
        if near
        else "Save model.state_dict() of the unwrapped network, under the names that torchvision or timm give it.",
        details={
            "counts": counts,
            "missing": missing[:LISTED],
            "unexpected": [shown(name).strip("`") for name in unexpected[:LISTED]],
            "wrong_shape": shapes[:LISTED],
            "nearest": near,
        },
    )


def _example(missing: list[str], unexpected: list[str], shapes: list[dict[str, Any]]) -> str:
    if missing:
        return f"{shown(missing[0])} is not there"
    if unexpected:
        return f"{shown(unexpected[0])} does not belong there"
    return f"`{shapes[0]['name']}` is {shapes[0]['found']} instead of {shapes[0]['expected']}"


def _nearest(found: dict[str, TensorEntry], base_model: str) -> str | None:
    """The card whose backbone shares most names and shapes with the file, if it is another one and shares most."""
    have = {(name, entry.shape) for name, entry in found.items()}
    best, score = None, _ALIKE
    for card in cards():
        if card.modality != "image":
            continue
        tensors = anatomy(card.id).backbone
        want = {(name, one.shape) for name, one in tensors.items() if not name.endswith(_TRACKED)}
        alike = len(want & have) / len(want)
        if alike > score:
            best, score = card.id, alike
    return None if best == base_model else best
