"""From checked tensors to a network: its backbone, and its classifier as a head of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from worker.engine.backbones.backbone import Backbone, digest
from worker.engine.heads import Head, Normalise
from worker.engine.importing.architecture import Anatomy, family

_ALIKE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class Network:
    """A network that is whole; without a head it makes embeddings only."""

    backbone: Backbone
    head: Head | None


def from_parts(
    card: BaseModelCard, lineage: list[str], tensors: dict[str, Tensor], head: dict[str, Tensor], normalise: Normalise
) -> Network:
    """A network out of a bundle's parts."""
    built = family(card.builder)
    with _blank(card):
        module: nn.Module = built.behead(card, built.build(card))
    module.load_state_dict(tensors, strict=True, assign=True)
    return Network(_backbone(card, lineage, module), _head(head, normalise) if head else None)


def from_state(
    card: BaseModelCard, lineage: list[str], anatomy: Anatomy, tensors: dict[str, Tensor], images: Tensor
) -> Network:
    """A network out of a whole state dict with its linear classifier, which becomes the head.

    Raises `JobError` `head_not_linear` if the network answers `images` otherwise than its embedding with that head.
    """
    built, place = family(card.builder), anatomy.linear
    assert place is not None
    with _blank(card):
        module: nn.Module = built.build(card)
    layer = module.get_submodule(place)
    for part in ("weight", "bias"):  # may have another number of outputs than the network was built with
        setattr(layer, part, nn.Parameter(tensors[f"{place}.{part}"], requires_grad=False))
    module.load_state_dict(tensors, strict=True, assign=True)
    head = _head({part: tensors[f"{place}.{part}"] for part in ("weight", "bias")}, "none")
    expected = run(module.eval(), images)
    network = Network(_backbone(card, lineage, built.behead(card, module)), head)
    with torch.inference_mode():
        found = head.as_module()(run(network.backbone.module, images))
    if expected.shape != found.shape or not torch.allclose(
        found, expected, rtol=0, atol=_ALIKE * max(1e-6, float(expected.abs().max()))
    ):
        raise not_linear(card.id)
    return network


def run(module: nn.Module, images: Tensor) -> Tensor:
    """The network's answer to images (N, 3, S, S); `JobError` `invalid_weights` if it is not made of finite figures."""
    try:
        with torch.inference_mode():
            answer: Tensor = module(images)
    except (RuntimeError, AssertionError) as error:  # e.g. an image size that the network cannot take
        raise JobError(
            "The network does not run on images of the size that is to be prepared.",
            code="invalid_weights",
            param="file",
            hint="Import weights that were trained with the architecture's own image size.",
            details={"size": images.shape[-1], "reason": str(error)[:200]},
        ) from error
    if not torch.isfinite(answer).all():
        raise JobError(
            "The network answers ordinary images with figures that are not finite.",
            code="invalid_weights",
            param="file",
            hint="Its weights are too large: import a checkpoint from before the training diverged.",
        )
    return answer


def not_linear(base_model: str) -> JobError:
    """The error for a classifier that cannot become a head of ours."""
    return JobError(
        f"The classifier of {base_model} is more than one linear layer on its embedding, and cannot be taken over.",
        code="head_not_linear",
        param="classes",
        hint="Import it without `classes`, as a base model, and run a linear_probe job on it.",
    )


@contextmanager
def _blank(card: BaseModelCard) -> Iterator[None]:
    """Torchvision's networks need no memory before they are filled; timm's have hidden buffers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if card.builder == "torchvision" else "cpu"):
        yield


def _backbone(card: BaseModelCard, lineage: list[str], module: nn.Module) -> Backbone:
    module = module.eval()
    return Backbone(card, module, digest(module), family(card.builder).stages(card, module), lineage)


def _head(parts: dict[str, Tensor], normalise: Normalise) -> Head:
    arrays = {name: tensor.numpy() for name, tensor in parts.items()}
    try:
        return Head(arrays["weight"], arrays["bias"], normalise, arrays.get("mean"), arrays.get("scale"))
    except ValueError as error:
        raise JobError(
            f"The classifier cannot be taken: {error}.",
            code="invalid_weights",
            param="file",
            hint="Send the bundle just as it was downloaded.",
        ) from error
