"""What the deep methods of domain adaptation share: batches of both domains, training, the state that is kept.

Labels of the target are never looked at. What is kept is the state with the best score on unlabelled target items and
honest source answers, so that a training that goes astray is cut back.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.methods.deep import Aligned, DeepAdaptation
from core.contract.reports import CurvePoint
from worker.engine import loop
from worker.engine.backbones import Backbone
from worker.engine.data import Items
from worker.engine.feeds import Floats, Source, embed_all, feature_feed, source
from worker.engine.heads import Head
from worker.engine.loading import workers
from worker.engine.loop import Feed, Outcome, Plan, Validation
from worker.engine.memory import AtATime
from worker.engine.methods.adapting import target_items
from worker.engine.methods.domain_feeds import Kitchen, paired, repeated
from worker.engine.methods.domain_score import unlabelled_loss
from worker.engine.methods.domains import Alignment, DomainTraining, Neck, Weights
from worker.engine.methods.network import mixed, repeatable
from worker.engine.methods.settling import Facts, Settled, is_scratch, settle
from worker.engine.methods.supervised import move
from worker.engine.task import Task, Trained

SCORED = 2000  # items of a domain on which a network in training is scored
WARMUP = 0.1  # share of the steps with a rising rate


@dataclass(frozen=True)
class Seen:
    """Embeddings by the network as it is now."""

    own: Floats
    """Of source items that are learnt from, or some of them (n, D)."""
    validation: Floats
    """Of the source's validation items, or the first of them (v, D)."""
    target: Floats
    """Of target items, or some of them (m, D)."""


class World(Protocol):
    """Both domains as a training sees them: features that never change, or inputs of a network that does."""

    @property
    def backbone(self) -> Backbone | None:
        """What is trained; None where it is features."""

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of the source and of the target, so many an epoch."""

    def embed(self) -> Seen:
        """Both domains by the network as it is now."""


Make = Callable[[World, Neck, Settled], DomainTraining]
Join = Callable[[Feed, Feed, Settled], Feed]


def align(task: Task, alignment: Callable[[int, int], Alignment]) -> Trained:
    """Train with a loss that pulls the domains together; it is made for the bottleneck's width and the classes."""
    assert isinstance(task.options, Aligned)
    weight = task.options.weight

    def make(world: World, neck: Neck, options: Settled) -> DomainTraining:
        weights = Weights(weight, options.label_smoothing, options.source_epochs, options.epochs)
        pull = alignment(neck.classifier.in_features, neck.classifier.out_features)
        return DomainTraining(world.backbone, neck, pull, weights, freeze=options.freeze, batch_norm=options.batch_norm)

    return adapt(task, make)


def adapt(task: Task, make: Make, join: Join = lambda one, other, _options: paired(one, other)) -> Trained:
    """Train what `make` makes, on batches of both domains as `join` puts them together."""
    target = target_items(task)
    assert isinstance(task.options, DeepAdaptation)
    options = settle(task.options, _facts(task, target))
    resolved = task.options.model_dump(mode="json") | options.model_dump(mode="json")
    task.sink("resolved", {"method": resolved})
    with repeatable(task.seed, task.device), _world(task, options, target) as world:
        width = task.base.identity.card.width
        neck = Neck(width, options.bottleneck, task.data.outputs)
        method = make(world, neck, options)
        move(method.module, task.device)
        outcome = _train(task, options, world, method, join)
        trained = _trained(task, method, world, outcome)
    if trained.backbone is not None:
        move(trained.backbone.module, torch.device("cpu"))
        trained.backbone.module.eval()
    return replace(trained, options=resolved, notes=_story(outcome, options))


def _facts(task: Task, target: Items) -> Facts:
    assert isinstance(task.options, DeepAdaptation)
    data = task.data
    return Facts(
        card=task.base.identity.card,
        scratch=is_scratch(task.options, task.base),
        device=task.device.type,
        source=len(data.train),
        target=len(target),
        classes=data.outputs,
    )


@contextmanager
def _world(task: Task, options: Settled, target: Items) -> Iterator[World]:
    if options.freeze == "all":
        yield _Features(task, options, target)
        return
    with workers(task.threads, "augment") as pool:
        yield _Network(task, options, target, pool)


class _Features:
    """Cached features of the frozen base model."""

    backbone = None

    def __init__(self, task: Task, options: Settled, target: Items) -> None:
        self._task, self._options = task, options
        self._labels = task.data.train.labels
        parts = (task.data.train, task.data.validation, target)
        self._seen = Seen(*(self._of(items) for items in parts))

    def _of(self, items: Items) -> Floats:
        if len(items) == 0:
            return np.empty((0, self._task.base.identity.card.width), dtype=np.float32)
        return _finite(self._task.features(items))

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of features."""
        nothing = np.full(len(self._seen.target), -1)
        return self._feed(self._seen.own, self._labels, 0, steps), self._feed(self._seen.target, nothing, 1, steps)

    def _feed(self, features: Floats, labels: NDArray[np.int64], domain: int, steps: int) -> Feed:
        task, size = self._task, self._options.batch_size
        order = repeated(len(features), size, steps, (task.seed, domain))
        return feature_feed(features, labels, batch_size=size, seed=task.seed, device=task.device, order=order)

    def embed(self) -> Seen:
        """The features."""
        return self._seen


class _Network:
    """A network that learns, and the items as they are put into it."""

    def __init__(self, task: Task, options: Settled, target: Items, pool: ThreadPoolExecutor) -> None:
        self.backbone = copy.deepcopy(task.base.backbone())  # others may still want the frozen one
        self._task, self._pool, self._target = task, pool, target
        self._kitchen = Kitchen(
            self.backbone, options, task.seed, task.device, pool, task.threads + 1, task.wishes.check
        )
        self._autocast = mixed(task.device) if options.mixed_precision else None
        self._sizes = AtATime(task.device)
        rng = task.rng()
        parts = (_some(task.data.train, rng), _some(task.data.validation, None), _some(target, rng))
        self._scored = [source(items, self.backbone, share=0.05) for items in parts]

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of inputs; the target's labels are hidden."""
        hidden = replace(self._target, labels=np.full(len(self._target), -1))
        return self._kitchen.feed(self._task.data.train, 0, steps), self._kitchen.feed(hidden, 1, steps)

    def embed(self) -> Seen:
        """Embeddings of at most so many items of each kind."""
        return Seen(*(self._of(part) for part in self._scored))

    def _of(self, part: Source) -> Floats:
        if len(part.items) == 0:
            return np.empty((0, self.backbone.card.width), dtype=np.float32)
        found = embed_all(
            self.backbone.module,
            part,
            device=self._task.device,
            pool=self._pool,
            autocast=self._autocast,
            check=self._task.wishes.check,
            sizes=self._sizes,
        )
        return _finite(found)


def _some(items: Items, rng: np.random.Generator | None) -> Items:
    """The first items, or, with a generator, any; not more than are scored."""
    if len(items) <= SCORED:
        return items
    chosen = np.arange(SCORED) if rng is None else np.sort(rng.permutation(len(items))[:SCORED])
    return replace(items, indices=items.indices[chosen], labels=items.labels[chosen])


def _finite(features: Floats) -> Floats:
    if np.isfinite(features).all():
        return features
    raise JobError(
        "Some of the network's embeddings are not finite.",
        code="non_finite_loss",
        param="method",
        hint="Lower `head_lr` and `backbone_lr`.",
    )


def _train(task: Task, options: Settled, world: World, method: DomainTraining, join: Join) -> Outcome:
    steps = -(-len(task.data.train) // options.batch_size)
    plan = Plan(
        epochs=options.epochs,
        steps_per_epoch=steps,
        warmup=WARMUP,
        patience=options.early_stop,
        autocast=mixed(task.device) if options.mixed_precision else None,
        ema=options.ema,
        remedy="Lower `head_lr` and `backbone_lr`.",
    )

    def say(point: CurvePoint) -> None:
        figures = {name: value for name, value in point.model_dump(exclude={"x"}).items() if value is not None}
        task.sink("metric", {"epoch": point.x, **figures})

    def progress(epoch: int, share: float, eta: float) -> None:
        task.steps.progress("train", share, epoch=epoch, epochs=options.epochs, eta_seconds=eta)

    return loop.train(
        method,
        join(*world.feeds(steps), options),
        _optimiser(method, options),
        plan,
        device=task.device,
        validate=lambda: _validation(task, method, world),
        wishes=task.wishes,
        checkpoints=task.checkpoints,
        say=say,
        tell=task.steps.say,
        progress=progress,
    )


def _optimiser(method: DomainTraining, options: Settled) -> torch.optim.Optimizer:
    """AdamW; the base model has its own rate, biases and norms (fewer than two axes) no weight decay."""
    own = {id(parameter) for parameter in method.backbone.parameters()}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in method.module.parameters():
        if parameter.requires_grad:
            rate = options.backbone_lr if id(parameter) in own else options.head_lr
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    parts = [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()]
    return torch.optim.AdamW(parts)


@dataclass(frozen=True)
class _Answers:
    """Heads of both domains, and what they say."""

    head: Head
    on_source: Head
    validation: Floats
    target: Floats


def _answers(method: DomainTraining, seen: Seen, device: torch.device) -> _Answers:
    """Each domain through the bottleneck with statistics of its own; with shared ones there is one head."""
    try:
        if method.batch_norm != "shared":
            method.neck.take_statistics(torch.from_numpy(seen.own).to(device))
        on_source = method.deployable()
        if method.batch_norm != "shared":
            method.neck.take_statistics(torch.from_numpy(seen.target).to(device))
        head = method.deployable()
    except ValueError as error:
        raise JobError(
            "The trained weights are not finite.",
            code="non_finite_loss",
            param="method",
            hint="Lower `head_lr` and `backbone_lr`.",
        ) from error
    return _Answers(head, on_source, on_source(seen.validation), head(seen.target))


def _validation(task: Task, method: DomainTraining, world: World) -> Validation:
    found = _answers(method, world.embed(), task.device)
    labels = task.data.validation.labels[: len(found.validation)]
    right = float((found.validation.argmax(axis=1) == labels).mean()) if len(labels) else 0.0
    return Validation(unlabelled_loss(found.validation, labels, found.target), right)


def _trained(task: Task, method: DomainTraining, world: World, outcome: Outcome) -> Trained:
    found, data = _answers(method, world.embed(), task.device), task.data
    known = np.full((len(data.train) + len(data.validation), data.outputs), np.nan, dtype=np.float32)
    known[len(data.train) : len(data.train) + len(found.validation)] = found.validation
    on_source = None if method.batch_norm == "shared" else found.on_source
    return Trained(data, found.head, world.backbone, out_of_fold=known, curve=outcome.curve, on_source=on_source)


def _story(outcome: Outcome, options: Settled) -> list[str]:
    last = outcome.curve[-1].x if outcome.curve else 0
    notes = ["No label of the target was used. The state that was kept scored best on unlabelled target items."]
    if outcome.stopped:
        notes.append(f"Training was stopped on request after {last:.3g} of {options.epochs} epochs.")
    elif last < options.epochs:
        notes.append(f"Training ended after epoch {last:.0f}: the score had not improved for {options.early_stop}.")
    what = "is the moving average of the weights" if outcome.averaged else "are the weights"
    best = 0 if outcome.best_epoch is None else outcome.best_epoch
    return [*notes, f"Kept {what} after epoch {best:.3g}."]
