"""The one training loop. A method brings a small class with losses; schedule, stopping and best weights are here."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.contract.datasets import Problem
from core.contract.errors import JobError
from core.contract.reports import CurvePoint
from worker.engine.checkpoint import Checkpoints
from worker.engine.door import SuspendedError
from worker.engine.memory import AtATime
from worker.engine.recipes.distributed import Team
from worker.engine.recipes.ema import Average
from worker.engine.state import Keeper, Position, Training, follow
from worker.engine.steps import Wishes

CLIP = 5.0  # largest norm of the gradient: ordinary steps stay below it


@dataclass(frozen=True)
class Batch:
    """A network's inputs, each (n, …), as the method's feed makes them, and targets (n, …), on the job's device."""

    inputs: tuple[Tensor, ...]
    labels: Tensor


Feed = Callable[[int, int], Iterator[Batch]]
"""The batches of an epoch (from 1) but for so many first ones, which are not even read; the same ones each time."""


class Method(Protocol):
    """What trains in the loop."""

    @property
    def module(self) -> nn.Module:
        """All that is trained and all that has state; the best state is kept and put back."""

    def train(self, epoch: int) -> None:
        """Set the parts to training mode, those that are frozen in this epoch (from 1) to evaluation mode."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses, each a scalar, the mean over the batch's items; their sum is minimised."""


@dataclass(frozen=True)
class Validation:
    """How well the present state does on the validation split."""

    loss: float
    score: float | None
    """Accuracy, or what else `worker.engine.problems.score` calls it; None where no item has a label."""
    problem: Problem = "classification"

    def point(self, x: float, train_loss: float | None = None) -> CurvePoint:
        """It as a point of the curve."""
        exact = self.problem == "classification"
        return CurvePoint(
            x=x,
            train_loss=train_loss,
            validation_loss=self.loss,
            validation_accuracy=self.score if exact else None,
            validation_score=None if exact else self.score,
        )


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    epochs: int
    steps_per_epoch: int
    warmup: float
    patience: int | None
    autocast: torch.dtype | None = None
    """Type of mixed precision; None trains in float32."""
    ema: float | None = None
    """Decay of the moving average of the weights that is validated, too; None keeps none."""
    remedy: str = "Lower `head_lr` and `backbone_lr`, or lengthen `warmup`."
    """What to do when the loss stops being a number."""


@dataclass
class Outcome:
    """What happened."""

    curve: list[CurvePoint] = field(default_factory=list)
    best_epoch: float | None = None
    """Epoch whose weights were kept (0: those it started with); None where nothing could be validated."""
    best_loss: float = math.inf
    """Its validation loss."""
    averaged: bool = False
    """Whether these are the moving average of the weights."""
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
    feed: Feed,
    optimiser: torch.optim.Optimizer,
    plan: Plan,
    *,
    device: torch.device,
    validate: Callable[[], Validation] | None,
    wishes: Wishes,
    checkpoints: Checkpoints,
    say: Callable[[CurvePoint], None] = lambda _point: None,
    tell: Callable[[str], None] = lambda _text: None,
    progress: Callable[[int, float, float], None] = lambda _epoch, _share, _eta: None,
    team: Team | None = None,
) -> Outcome:
    """Train, and leave the method with the best weights seen on validation, those it started with included.

    Goes on where an earlier attempt was saved, if there is such a checkpoint, and saves its own state now and then.
    `say` gets a point after every epoch, `progress` (epoch, share done, seconds left) after every step, `tell` what
    the user should know. With a `team` each of its processes calls this with its part of the batches, and only that of
    rank 0 validates and saves; the others follow it until it is done.

    Raises `JobError` `non_finite_loss` and `out_of_memory`, `CancelledError` when the job is not wanted any more, and
    `SuspendedError`, its state saved, when it is to go on elsewhere.
    """
    training = Training(
        method.module,
        optimiser,
        device,
        scaler=torch.amp.GradScaler("cuda", enabled=plan.autocast == torch.float16),
        keeper=None if validate is None else Keeper(method.module),
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        average=None if plan.ema is None else Average(method.module, plan.ema),
    )
    checkpoints.restore(training)
    if team is not None:
        follow(team, training)
    run = _Run(method, training, plan, wishes, checkpoints, progress=progress, tell=tell, team=team)
    outcome = Outcome()
    try:
        _epochs(training, run, feed, validate=validate, patience=plan.patience, say=say)
    except SuspendedError:
        checkpoints.save(training)
        raise
    if team is not None and team.rank == 0 and training.step_is_due:
        team.go_on(False)
    outcome.curve, outcome.stopped = training.at.curve, wishes.stopped
    if training.keeper is not None:
        training.keeper.restore()
        outcome.best_epoch, outcome.best_loss = training.keeper.at, training.keeper.best
        outcome.averaged = training.keeper.averaged
    return outcome


def _epochs(
    training: Training,
    run: "_Run",
    feed: Feed,
    *,
    validate: Callable[[], Validation] | None,
    patience: int | None,
    say: Callable[[CurvePoint], None],
) -> None:
    """All epochs from where the training is."""
    at, keeper = training.at, training.keeper
    if validate is not None and keeper is not None and not at.curve:
        start = validate()
        keeper.offer(start.loss, 0.0)
        _note(at, start.point(0), say)
    while at.epoch <= training.epochs:
        run.epoch(feed(at.epoch, at.done))
        if at.done == 0:
            break
        x = training.epochs_done
        run.settle()
        found = _validated(training, validate, x)
        loss = at.loss / max(at.items, 1)
        _note(at, found.point(x, loss) if found else CurvePoint(x=x, train_loss=loss), say)
        if keeper is not None and patience is not None and x - keeper.at >= patience:
            break
        if run.wishes.stopped:
            break
        at.next_epoch()
        if at.epoch <= training.epochs:
            run.checkpoints.keep(training)


def _validated(training: Training, validate: Callable[[], Validation] | None, x: float) -> Validation | None:
    """How well the weights do, or their moving average where that is better; the best so far are kept."""
    keeper, average = training.keeper, training.average
    if validate is None or keeper is None:
        return None
    found = validate()
    keeper.offer(found.loss, x)
    if average is not None:
        with average.inside():
            other = validate()
            keeper.offer(other.loss, x, averaged=True)
        found = other if other.loss < found.loss else found
    return found


def _note(at: Position, point: CurvePoint, say: Callable[[CurvePoint], None]) -> None:
    at.curve.append(point)
    say(point)


class _Run:
    """Steps of gradient descent."""

    def __init__(
        self,
        method: Method,
        training: Training,
        plan: Plan,
        wishes: Wishes,
        checkpoints: Checkpoints,
        *,
        progress: Callable[[int, float, float], None],
        tell: Callable[[str], None],
        team: Team | None = None,
    ) -> None:
        self.team = team
        self.method, self.training, self.plan, self.wishes = method, training, plan, wishes
        self.checkpoints, self.progress, self.tell = checkpoints, progress, tell
        self.peaks = [group["lr"] for group in training.optimiser.param_groups]
        self.begun = time.monotonic() - training.at.seconds
        self.sizes = AtATime(
            training.device, size=training.at.at_a_time, release=training.optimiser.zero_grad, say=self._smaller
        )

    def epoch(self, batches: Iterator[Batch]) -> None:
        """The rest of one epoch, or of it what the user wants."""
        training, at = self.training, self.training.at
        self.method.train(at.epoch)
        for batch in batches:
            if not self._wanted():
                break
            loss, items = self._descend(batch)
            at.loss += loss * items
            at.items += items
            at.done += 1
            at.seconds = time.monotonic() - self.begun
            share = at.step / training.steps
            self.progress(at.epoch, share, at.seconds * (1 - share) / share)
            if at.done < training.steps_per_epoch:  # else once it is validated, too
                self.checkpoints.keep(training)

    def _wanted(self) -> bool:
        """Whether to do one more step: what the user wants, or what rank 0 says."""
        if self.team is not None and self.team.rank > 0:
            self.wishes.stopped |= not self.team.go_on()
            return not self.wishes.stopped
        if self.wishes.stop():
            return False
        return self.team is None or self.team.go_on()

    def settle(self) -> None:
        """At the end of an epoch: running statistics are those of all processes together."""
        if self.team is not None and not self.wishes.stopped:
            self.team.average_buffers(self.method.module)

    def _descend(self, batch: Batch) -> tuple[float, int]:
        """One step; returns the batch's mean loss, and its items."""
        training, at, items = self.training, self.training.at, len(batch.labels)
        factor = rate(at.step, training.steps, self.plan.warmup)
        for group, peak in zip(training.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        loss = self.sizes.attempt(len(batch.labels), lambda size: self._gradients(batch, size))
        if self.team is not None:
            loss, items = self._together(self.team, loss, items)
        # torch does not type the scaler's arguments
        scaler: Any = training.scaler
        with self.sizes.fatal(len(batch.labels)):
            scaler.unscale_(training.optimiser)
            norm = float(nn.utils.clip_grad_norm_(training.parameters, CLIP))
            # In half precision a scale that is too large is found by just this, and lowered; below 1 it is not that.
            if not math.isfinite(norm) and not (scaler.is_enabled() and scaler.get_scale() >= 1):
                raise self._diverged("gradients", {"gradient_norm": str(norm), "loss": str(loss)})
            scaler.step(training.optimiser)
            scaler.update()
        at.step += 1
        if training.average is not None:
            training.average.update(at.step)
        return loss, items

    def _together(self, team: Team, loss: float, items: int) -> tuple[float, int]:
        """Make the gradients those of the whole batch; returns its mean loss, and its items."""
        count = team.total(items)
        for parameter in self.training.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(items / count)
        team.add_gradients(self.training.parameters)
        loss = team.total(loss * items / count)
        if not math.isfinite(loss):
            raise self._diverged("loss", {"loss": str(loss)})
        return loss, int(count)

    def _gradients(self, batch: Batch, size: int) -> float:
        """Add up the gradients of the batch in parts of at most `size` items; returns its mean loss."""
        self.training.optimiser.zero_grad(set_to_none=True)
        count, total = len(batch.labels), 0.0
        parts = -(-count // size)
        rows = zip(*(part.tensor_split(parts) for part in (*batch.inputs, batch.labels)), strict=True)
        for *inputs, labels in rows:
            with torch.autocast(labels.device.type, self.plan.autocast, enabled=self.plan.autocast is not None):
                losses = self.method.loss(Batch(tuple(inputs), labels))
            loss = torch.stack(list(losses.values())).sum() * (len(labels) / count)
            value = float(loss.detach())
            if not math.isfinite(value) and self.team is None:
                raise self._diverged("loss", {name: str(float(part.detach())) for name, part in losses.items()})
            scaled: Any = self.training.scaler.scale(loss)
            scaled.backward()
            total += value
        return total

    def _smaller(self, before: int, now: int) -> None:
        self.training.at.at_a_time = now
        text = f"Out of memory with {before} images at a time: goes on with {now}, gradients added up."
        if any(isinstance(part, _BatchNorm) and part.training for part in self.method.module.modules()):
            text += f" Batch norms now take their statistics over {now} images instead of the whole batch."
        self.tell(text)

    def _diverged(self, what: str, values: dict[str, str]) -> JobError:
        at = self.training.at
        return JobError(
            f"The {what} stopped being {'a number' if what == 'loss' else 'numbers'} in epoch {at.epoch}.",
            code="non_finite_loss",
            param="method",
            hint=self.plan.remedy,
            details={"epoch": at.epoch, "step": at.step + 1, "values": values, "rates": self.peaks},
        )
