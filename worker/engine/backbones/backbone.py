"""A backbone: a network from images (N, 3, S, S) to embeddings (N, D), in parts that can be frozen."""

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import nn

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.modality.preparers import Preparer, preparer

Stages = list[tuple[str, list[nn.Module]]]


@dataclass(frozen=True)
class Identity:
    """Which network with which weights: all that a cache has to know."""

    card: BaseModelCard
    weights_digest: str
    """SHA-256 over the names, shapes and values of the backbone's tensors."""
    lineage: list[str]
    """Where the weights come from, nearest first, ending with a card's id."""

    @property
    def key(self) -> str:
        """Architecture and weights as one line."""
        return f"{self.card.builder}:{self.card.architecture}:{shape(self.card)}{self.weights_digest}"


@dataclass(frozen=True)
class Backbone:
    """A network without its head, on the CPU, in evaluation mode and float32 when it is loaded."""

    card: BaseModelCard
    module: nn.Module
    """(N, 3, S, S) -> (N, D)."""
    weights_digest: str
    stages: Stages
    """From input to output, named as `card.stages`; each parameter lies in exactly one."""
    lineage: list[str]
    tokenizer: bytes | None = None
    """A text network's `tokenizer.json`."""

    @property
    def identity(self) -> Identity:
        """What it is, without the network."""
        return Identity(self.card, self.weights_digest, self.lineage)

    def preparer(self) -> Preparer:
        """Turns items into its inputs."""
        return preparer(self.card.prepare, self.tokenizer)

    def backbone(self) -> "Backbone":
        """Itself, as `Base` wants it."""
        return self

    def frozen(self, freeze: str) -> list[nn.Module]:
        """The parts that `freeze` keeps still: none, all, or everything up to and with the stage of that name.

        Raises `JobError` `unknown_stage` for another name.
        """
        names = [name for name, _ in self.stages]
        if freeze in {"none", "all"}:
            count = 0 if freeze == "none" else len(names)
        elif freeze in names:
            count = names.index(freeze) + 1
        else:
            near = get_close_matches(freeze, names, n=1, cutoff=0.4)
            raise JobError(
                f"{self.card.id} has no stage {freeze!r}.",
                code="unknown_stage",
                param="method.freeze",
                hint=f"{f'Did you mean {near[0]}? ' if near else ''}Its stages are {', '.join(names)}; or none, all.",
            )
        return [part for _, parts in self.stages[:count] for part in parts]


class Base(Protocol):
    """Something that knows what it is and can build the network when it is really needed."""

    @property
    def identity(self) -> Identity:
        """What it is."""

    @property
    def tokenizer(self) -> bytes | None:
        """A text network's `tokenizer.json`."""

    def preparer(self) -> Preparer:
        """Turns items into the network's inputs."""

    def backbone(self) -> Backbone:
        """The network."""


def shape(card: BaseModelCard) -> str:
    """What a network's function depends on besides its architecture's name and its tensors."""
    if not card.config:
        return ""
    return hashlib.sha256(json.dumps(card.config, sort_keys=True).encode()).hexdigest()[:16] + ":"


def with_leftovers(module: nn.Module, stages: Stages) -> Stages:
    """Put parameters that lie in no stage (class tokens, position embeddings) into the first one."""
    held = {id(parameter) for _, parts in stages for part in parts for parameter in part.parameters()}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in held]
    if not rest:
        return stages
    (name, parts), *others = stages
    return [(name, [*parts, nn.ParameterList(rest)]), *others]


def digest(module: nn.Module) -> str:
    """SHA-256 over the module's tensors: the same values give the same digest, from whatever file they came."""
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):  # counts steps of training, changes no output
            continue
        values = tensor.detach().to("cpu").contiguous()
        found.update(f"{name}:{values.dtype}:{tuple(values.shape)};".encode())
        found.update(memoryview(values.reshape(-1).view(torch.uint8).numpy()))
    return found.hexdigest()
