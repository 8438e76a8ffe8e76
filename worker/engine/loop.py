"""The one training loop. A method brings a small class with losses; schedule, stopping and best weights are here."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.contract.errors import JobError
from core.contract.reports import CurvePoint
from worker.engine.heads import Head
from worker.engine.steps import Wishes

CLIP = 5.0  # largest norm of the gradient: ordinary steps stay below it


@dataclass(frozen=True)
class Batch:
    """Inputs (n, …) as the method's feed makes them, and labels (n,), on the job's device."""

    inputs: Tensor
    labels: Tensor


class Method(Protocol):
    """What trains in the loop."""

    @property
    def module(self) -> nn.Module:
        """All that is trained and all that has state; the best state is kept and put back."""

    def train(self) -> None:
        """Set the parts to training mode, frozen ones to evaluation mode."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses, each a scalar; their sum is minimised."""

    def deployable(self) -> Head:
        """The head as it is served."""


@dataclass(frozen=True)
class Validation:
    """How well the present state does on the validation split."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    epochs: int
    steps_per_epoch: int
    warmup: float
    patience: int | None
    autocast: torch.dtype | None = None
    """Type of mixed precision; None trains in float32."""


@dataclass
class Outcome:
    """What happened."""

    curve: list[CurvePoint] = field(default_factory=list)
    best_epoch: float | None = None
    """Epoch whose weights were kept (0: those it started with); None where nothing could be validated."""
    best_loss: float = math.inf
    """Its validation loss."""
    stopped: bool = False
    """Ended by the user's wish."""


def rate(step: int, steps: int, warmup: float) -> float:
    """Factor of the peak learning rate at step 0 … steps - 1: a straight rise, then a cosine to zero.

    Loshchilov, Hutter: SGDR, ICLR 2017; warm-up as in Goyal et al., 2017.
    """
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def train(
    method: Method,
    feed: Callable[[int], Iterator[Batch]],
    optimiser: torch.optim.Optimizer,
    plan: Plan,
    *,
    validate: Callable[[], Validation] | None,
    wishes: Wishes,
    say: Callable[[CurvePoint], None] = lambda _point: None,
    progress: Callable[[int, float, float], None] = lambda _epoch, _share, _eta: None,
) -> Outcome:
    """Train, and leave the method with the best weights seen on validation, those it started with included.

    `say` gets a point after every epoch, `progress` (epoch, share done, seconds left) after every step. Raises
    `JobError` `non_finite_loss`, and `CancelledError` when the job is not wanted any more.
    """
    run = _Run(method, optimiser, plan, wishes, progress)
    keeper = _Keeper(method.module)
    outcome = Outcome()
    if validate is not None:
        start = validate()
        keeper.offer(start.loss, 0.0)
        _note(outcome, CurvePoint(x=0, validation_loss=start.loss, validation_accuracy=start.accuracy), say)
    for epoch in range(1, plan.epochs + 1):
        done, loss = run.epoch(epoch, feed(epoch))
        outcome.stopped = wishes.stopped
        if done == 0:
            break
        x = epoch - 1 + done / plan.steps_per_epoch
        found = validate() if validate is not None else None
        _note(
            outcome,
            CurvePoint(
                x=x,
                train_loss=loss,
                validation_loss=found.loss if found else None,
                validation_accuracy=found.accuracy if found else None,
            ),
            say,
        )
        if found is not None:
            keeper.offer(found.loss, x)
        if outcome.stopped or (plan.patience is not None and found is not None and x - keeper.at >= plan.patience):
            break
    if validate is not None:
        keeper.restore()
        outcome.best_epoch, outcome.best_loss = keeper.at, keeper.best
    return outcome


def _note(outcome: Outcome, point: CurvePoint, say: Callable[[CurvePoint], None]) -> None:
    outcome.curve.append(point)
    say(point)


class _Keeper:
    """Keeps the best state and puts it back."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.best = math.inf
        self._state: dict[str, Tensor] = {}
        self.at = 0.0

    def offer(self, loss: float, at: float) -> None:
        """Keep the present state if its loss is the least so far (or the first)."""
        if self._state and not (loss < self.best or math.isnan(self.best)):
            return
        self.best, self.at = loss, at
        self._state = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def restore(self) -> None:
        """Put the best state back."""
        self._module.load_state_dict(self._state)


class _Run:
    """Steps of gradient descent."""

    def __init__(
        self,
        method: Method,
        optimiser: torch.optim.Optimizer,
        plan: Plan,
        wishes: Wishes,
        progress: Callable[[int, float, float], None],
    ) -> None:
        self.method, self.optimiser, self.plan, self.wishes = method, optimiser, plan, wishes
        self.progress = progress
        self.peaks = [group["lr"] for group in optimiser.param_groups]
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler("cuda", enabled=plan.autocast == torch.float16)
        self.step = 0
        self.begun = time.monotonic()

    def epoch(self, number: int, batches: Iterator[Batch]) -> tuple[int, float]:
        """One pass; returns how many steps were done and their mean loss."""
        self.method.train()
        total, items, done = 0.0, 0, 0
        for batch in batches:
            if self.wishes.stop():
                break
            loss = self._descend(batch, number)
            total += loss * len(batch.labels)
            items += len(batch.labels)
            done += 1
            share = self.step / (self.plan.epochs * self.plan.steps_per_epoch)
            self.progress(number, share, (time.monotonic() - self.begun) * (1 - share) / share)
        return done, total / max(items, 1)

    def _descend(self, batch: Batch, epoch: int) -> float:
        factor = rate(self.step, self.plan.epochs * self.plan.steps_per_epoch, self.plan.warmup)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimiser.zero_grad(set_to_none=True)
        device = batch.labels.device.type
        with torch.autocast(device, self.plan.autocast, enabled=self.plan.autocast is not None):
            losses = self.method.loss(batch)
        loss = torch.stack(list(losses.values())).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _diverged(epoch, losses)
        # torch does not type the scaler's arguments
        scaler: Any = self.scaler
        scaler.scale(loss).backward()
        scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        scaler.step(self.optimiser)
        scaler.update()
        self.step += 1
        return value


def _diverged(epoch: int, losses: dict[str, Tensor]) -> JobError:
    return JobError(
        f"The loss stopped being a number in epoch {epoch}.",
        code="non_finite_loss",
        param="method",
        hint="Lower `head_lr` and `backbone_lr`, or lengthen `warmup`.",
        details={"epoch": epoch, "losses": {name: str(float(loss.detach())) for name, loss in losses.items()}},
    )
