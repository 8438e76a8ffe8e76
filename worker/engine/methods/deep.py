"""What the deep methods of domain adaptation share: batches of both domains, training, the state that is kept.

Labels of the target are never looked at. What is kept is the state with the best score on unlabelled target items and
honest source answers, so that a training that goes astray is cut back.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from core.contract.errors import JobError
from core.contract.methods.deep import Aligned, DeepAdaptation
from core.contract.reports import CurvePoint
from worker.engine import loop
from worker.engine.data import Items
from worker.engine.feeds import Floats
from worker.engine.heads import Head
from worker.engine.hypothesis import head as own_head
from worker.engine.loop import Feed, Outcome, Plan, Validation
from worker.engine.methods.adapter import Adapter
from worker.engine.methods.adapting import target_items
from worker.engine.methods.domain_feeds import paired
from worker.engine.methods.domain_score import unlabelled_loss
from worker.engine.methods.domains import Alignment, DomainTraining, Top, Weights
from worker.engine.methods.network import mixed, repeatable
from worker.engine.methods.settling import Facts, Settled, is_scratch, settle
from worker.engine.methods.supervised import move
from worker.engine.methods.worlds import Seen, World, world
from worker.engine.task import Task, Trained

WARMUP = 0.1  # share of the steps with a rising rate


Make = Callable[[World, Top, Settled], DomainTraining]
Join = Callable[[Feed, Feed, Settled], Feed]


def align(task: Task, alignment: Callable[[int, int], Alignment]) -> Trained:
    """Train with a loss that pulls the domains together; it is made for the bottleneck's width and the classes."""
    assert isinstance(task.options, Aligned)
    weight = task.options.weight

    def make(world: World, neck: Top, options: Settled) -> DomainTraining:
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
    with repeatable(task.seed, task.device), world(task, options, target) as both:
        method = make(both, _top(task, both, options), options)
        move(method.module, task.device)
        outcome = _train(task, options, both, method, join)
        trained = _trained(task, method, both, outcome)
    if trained.backbone is not None:
        move(trained.backbone.module, torch.device("cpu"))
        trained.backbone.module.eval()
    return replace(trained, options=resolved, notes=_story(outcome, options))


def _top(task: Task, world: World, options: Settled) -> Top:
    """A bottleneck and a classifier that have to learn; without a source, the classifier that is there, and a layer."""
    found = task.data.hypothesis
    if found is None:
        return world.neck(options.bottleneck, task.data.outputs)
    assert task.parent is not None
    if world.backbone is not None:
        move(world.backbone.module, task.device)  # it embeds the target, for the layer to be made to its measure
    return Adapter.of(own_head(task.parent, found), world.embed().target, task.rng())


def _facts(task: Task, target: Items) -> Facts:
    assert isinstance(task.options, DeepAdaptation)
    data = task.data
    return Facts(
        card=task.base.identity.card,
        scratch=is_scratch(task.options, task.base),
        device=task.device.type,
        source=len(data.learnt),
        target=len(target),
        classes=data.outputs,
        alone=data.hypothesis is not None,
    )


def _train(task: Task, options: Settled, world: World, method: DomainTraining, join: Join) -> Outcome:
    steps = -(-len(task.data.learnt) // options.batch_size)
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
        optimiser(method, options),
        plan,
        device=task.device,
        validate=lambda: _validation(task, method, world),
        wishes=task.wishes,
        checkpoints=task.checkpoints,
        say=say,
        tell=task.steps.say,
        progress=progress,
    )


def optimiser(method: DomainTraining, options: Settled) -> torch.optim.Optimizer:
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
    right = float((found.validation.argmax(axis=1) == labels).mean()) if len(labels) else None
    return Validation(unlabelled_loss(found.validation, labels, found.target), right)


def _trained(task: Task, method: DomainTraining, world: World, outcome: Outcome) -> Trained:
    found, data = _answers(method, world.embed(), task.device), task.data
    known = np.full((len(data.train) + len(data.validation), data.outputs), np.nan, dtype=np.float32)
    known[len(data.train) : len(data.train) + len(found.validation)] = found.validation
    return Trained(
        data.merged(),
        world.served(found.head),
        world.backbone,
        out_of_fold=known,
        curve=outcome.curve,
        on_source=None if method.batch_norm == "shared" else world.served(found.on_source),
    )


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
