"""All that a training is at one moment: weights, the best ones so far, what the optimiser knows, how far it is."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from core.contract.reports import CurvePoint
from worker.engine.recipes.distributed import Team
from worker.engine.recipes.ema import Average

_CUDA_RNG_BYTES = 16  # seed and offset of Philox


class Position(BaseModel):
    """How far a training is; true between any two steps."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = Field(default=1, ge=1)
    """The epoch in work, from 1."""
    done: int = Field(default=0, ge=0)
    """Batches done in it."""
    step: int = Field(default=0, ge=0)
    """Steps done in all."""
    loss: float = Field(default=0.0, allow_inf_nan=False)
    """Sum of the losses of the epoch's items so far."""
    items: int = Field(default=0, ge=0)
    """How many these are."""
    at_a_time: int | None = Field(default=None, ge=1)
    """Items that go through the network together, where memory does not suffice for a batch."""
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Time spent in training, earlier attempts included."""
    curve: list[CurvePoint] = []

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.done, self.loss, self.items = 0, 0.0, 0


class Keeper:
    """Keeps the best state of a module and puts it back."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.best = math.inf
        self.at = 0.0
        self.averaged = False
        """Whether it is the moving average's state."""
        self.state: dict[str, Tensor] = {}

    def offer(self, loss: float, at: float, *, averaged: bool = False) -> None:
        """Keep the present state if its loss is the least so far (or the first)."""
        if self.state and not (loss < self.best or math.isnan(self.best)):
            return
        self.best, self.at, self.averaged = loss, at, averaged
        self.state = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def restore(self) -> None:
        """Put the best state back."""
        self._module.load_state_dict(self.state)


@dataclass
class Training:
    """What the loop works on."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    device: torch.device
    scaler: torch.amp.GradScaler
    keeper: Keeper | None
    """None where nothing can be validated."""
    epochs: int
    """How many are planned, of `steps_per_epoch` steps each."""
    steps_per_epoch: int
    average: Average | None = None
    """The moving average of the weights, where one is kept."""
    at: Position = field(default_factory=Position)

    @property
    def steps(self) -> int:
        """How many are planned in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def step_is_due(self) -> bool:
        """Whether the plan has another step."""
        at = self.at
        return at.epoch < self.epochs or (at.epoch == self.epochs and at.done < self.steps_per_epoch)

    @property
    def epochs_done(self) -> float:
        """Epochs done, with the part of the one in work."""
        return self.at.epoch - 1 + self.at.done / self.steps_per_epoch

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that the optimiser moves, in its order."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def groups(self) -> list[dict[str, Any]]:
        """The values of the optimiser's groups, without their parameters."""
        return [
            {name: value for name, value in group.items() if name != "params"} for group in self.optimiser.param_groups
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name in a checkpoint: `model.*`, `best.*`, `average.*`, `optimiser.<n>.*`, `rng.*`."""
        found = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.keeper is not None:
            found |= {f"best.{name}": tensor for name, tensor in self.keeper.state.items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.average.state.items()}
        for number, parameter in enumerate(self.parameters):
            known = self.optimiser.state.get(parameter, {})
            found |= {f"optimiser.{number}.{name}": value for name, value in known.items() if isinstance(value, Tensor)}
        found["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def expected(self) -> dict[str, Tensor]:
        """For every name that a checkpoint may hold a tensor of the right shape and type, in the right memory format.

        The optimiser's are those of AdamW and of SGD with momentum, which exist from a parameter's first step on.
        """
        found = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.keeper is not None:
            found |= {f"best.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            if isinstance(self.optimiser, torch.optim.SGD):
                found[f"optimiser.{number}.momentum_buffer"] = parameter.detach()
            else:
                found[f"optimiser.{number}.step"] = torch.zeros(())
                found |= {f"optimiser.{number}.{name}": parameter.detach() for name in ("exp_avg", "exp_avg_sq")}
        found["rng.cpu"] = torch.get_rng_state()
        found["rng.cuda"] = torch.empty(_CUDA_RNG_BYTES, dtype=torch.uint8)
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with these, which must have been compared with `expected`."""
        own = self.module.state_dict()
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = tensor
        self.module.load_state_dict(parts["model"])
        if self.keeper is not None:
            self.keeper.state = {name: _alike(tensor, own[name]) for name, tensor in parts["best"].items()}
        if self.average is not None:
            self.average.state = {name: _alike(tensor, own[name]) for name, tensor in parts["average"].items()}
        parameters = self.parameters
        for name, tensor in parts.get("optimiser", {}).items():
            number, _, what = name.partition(".")
            parameter = parameters[int(number)]
            kept = tensor.clone() if what == "step" else _alike(tensor, parameter)
            self.optimiser.state.setdefault(parameter, {})[what] = kept
        torch.set_rng_state(parts["rng"]["cpu"])
        if self.device.type == "cuda" and "cuda" in parts["rng"]:
            torch.cuda.set_rng_state(parts["rng"]["cuda"], self.device)


def _alike(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy on the device and in the memory format of `like`: other strides would round otherwise."""
    return torch.empty_like(like, requires_grad=False).copy_(tensor)


def follow(team: Team, training: Training) -> None:
    """Give every process of a team the state of rank 0's, but for the random generator: each draws its own."""
    training.at = Position.model_validate_json(team.text(training.at.model_dump_json()))
    scale = json.loads(team.text(json.dumps(training.scaler.state_dict())))
    if scale:
        training.scaler.load_state_dict(scale)
    team.same(training.module.state_dict().values())
    moved = [name for name in training.tensors() if name.startswith("optimiser.")]
    names = json.loads(team.text(json.dumps(moved)))
    parameters, expected = training.parameters, training.expected()
    for name in names:
        _, number, what = name.split(".", 2)
        state = training.optimiser.state.setdefault(parameters[int(number)], {})
        team.same([state.setdefault(what, torch.zeros_like(expected[name]))])
    if team.rank > 0:
        torch.manual_seed(torch.initial_seed() + team.rank)
