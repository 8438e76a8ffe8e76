"""Meta-training: episodes of training classes, the loop, validation classes to choose by, what is served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.methods.episodic import MetaLearning
from core.contract.prepare import ImagePrepare
from core.contract.reports import CurvePoint
from worker.engine import loop
from worker.engine.calibration import calibrated_nll
from worker.engine.data import Items
from worker.engine.few_shot.batches import asked, batch_of, overlaid
from worker.engine.few_shot.embedder import Built, on_features, on_network
from worker.engine.few_shot.episodes import Pool, draw, feasible
from worker.engine.few_shot.learner import Learner
from worker.engine.few_shot.learnt import Learnt, Views
from worker.engine.few_shot.material import Material
from worker.engine.few_shot.settling import LOOKS, Facts, Kind, Settled, Usual, is_scratch, kind_of, settle
from worker.engine.few_shot.views import Pictures, Vectors, turned
from worker.engine.frozen import embeddings_of
from worker.engine.loop import Batch, Feed, Outcome, Plan, Validation
from worker.engine.methods.network import mixed, repeatable
from worker.engine.methods.supervised import move
from worker.engine.task import Task, Trained

WARMUP = 0.05
OVERLAID = 0.5  # of the episodes are of pairs of classes, where pictures are turned
_VALIDATED = 60  # episodes that a state is validated on
_VALIDATION_QUERIES = 5


@dataclass(frozen=True)
class Setting:
    """What a learner is made for."""

    built: Built
    options: Settled
    kind: Kind
    task: Task


Make = Callable[[Setting], Learner]


def train(task: Task, make: Make, usual: dict[Kind, Usual]) -> Trained:
    """Train what `make` makes on episodes; the result answers episodes, and has a head that knows all classes."""
    options = task.options
    assert isinstance(options, MetaLearning)
    material = Material.of(task.data, options, trains=True)
    kind = kind_of(options, is_scratch(options, task.base))
    pool = material.pool(material.split.train, "training", mirrored=kind != "features")
    settled = settle(options, _facts(task, pool), usual)
    queries = feasible(pool, settled.train_ways, settled.train_shots, settled.train_queries, "train_")
    settled = settled.model_copy(update={"train_queries": queries})
    resolved = options.model_dump(mode="json") | settled.model_dump(mode="json", exclude={"test_classes"})
    task.sink("resolved", {"method": resolved})
    views = _views(task, material, kind, settled)
    # One layer on features is too small to gain by it; plain convolutions gain on a CPU, too (`benchmarks.meta_speed`).
    autocast = mixed(task.device, on_cpu=True) if options.mixed_precision and kind != "features" else None
    with repeatable(task.seed, task.device):
        learner = make(Setting(_built(task, material, kind, settled), settled, kind, task))
        outcome = _descend(task, learner, material, pool=pool, views=views(False), options=settled, autocast=autocast)
        return _trained(task, learner, material, views=views, outcome=outcome, resolved=resolved, options=settled)


def _facts(task: Task, pool: Pool) -> Facts:
    options = task.options
    assert isinstance(options, MetaLearning)
    able = [len(rows) for rows in pool.rows if len(rows) > 1]
    fewest = sorted(able, reverse=True)[: max(2, len(able) // 2)]
    return Facts(
        card=task.base.identity.card,
        scratch=is_scratch(options, task.base),
        classes=len(able),
        items=min(fewest, default=2),
    )


def _built(task: Task, material: Material, kind: Kind, options: Settled) -> Built:
    if kind == "features":
        return on_features(task.features(material.data.merged().train), task)
    return on_network(task, options.freeze)


def _views(task: Task, material: Material, kind: Kind, options: Settled) -> Callable[[bool], Views]:
    """Views of the source's items, or of those of new classes in another data set; made once."""

    @cache
    def views(novel: bool) -> Views:
        items = material.measured if novel else material.items
        if kind == "features":
            return frozen_views(task, items, rotations=options.rotations)
        config = task.base.identity.card.prepare
        assert isinstance(config, ImagePrepare)
        return Pictures(items, config, task.device, augment=options.augmentation == "affine")

    return views


def frozen_views(task: Task, items: Items, *, rotations: bool) -> Views:
    """Features of the frozen base model; of turned pictures the network makes them anew."""
    if not rotations:
        return Vectors(task.features(items)[:, None], task.device)
    config, module = task.base.identity.card.prepare, task.base.backbone().module
    assert isinstance(config, ImagePrepare)
    move(module, task.device)
    return Vectors(turned(module, Pictures(items, config, task.device, augment=False), len(items)), task.device)


def _descend(
    task: Task,
    learner: Learner,
    material: Material,
    *,
    pool: Pool,
    views: Views,
    options: Settled,
    autocast: torch.dtype | None,
) -> Outcome:
    epochs = min(LOOKS, options.steps)
    plan = Plan(
        epochs=epochs,
        steps_per_epoch=-(-options.steps // epochs),
        warmup=WARMUP,
        patience=options.early_stop,
        autocast=autocast,
        remedy="Lower `lr`, or `inner_lr` where there is one.",
    )

    def say(point: CurvePoint) -> None:
        figures = {name: value for name, value in point.model_dump(exclude={"x"}).items() if value is not None}
        task.sink("metric", {"epoch": point.x, **figures})

    def progress(epoch: int, share: float, eta: float) -> None:
        task.steps.progress("train", share, epoch=epoch, epochs=epochs, eta_seconds=eta)

    parameters = [parameter for parameter in learner.module.parameters() if parameter.requires_grad]
    return loop.train(
        learner,
        _feed(task, pool, views, options, plan.steps_per_epoch),
        torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay),
        plan,
        device=task.device,
        validate=_validation(task, learner, material, views),
        wishes=task.wishes,
        checkpoints=task.checkpoints,
        say=say,
        tell=task.steps.say,
        progress=progress,
    )


def _feed(task: Task, pool: Pool, views: Views, options: Settled, steps: int) -> Feed:
    overlays = options.rotations and options.augmentation == "affine"

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        for step in range(steps)[skip:]:
            rng = np.random.default_rng((task.seed, epoch, step))
            shape = options.train_ways, options.train_shots, options.train_queries
            episodes = [draw(pool, *shape, rng) for _ in range(options.tasks)]
            if overlays and rng.random() < OVERLAID:
                others = [draw(pool, *shape, rng) for _ in range(options.tasks)]
                yield overlaid(episodes, others, views, rng, task.device)
            else:
                yield batch_of(episodes, views, rng, task.device)

    return feed


def _validation(task: Task, learner: Learner, material: Material, views: Views) -> Callable[[], Validation] | None:
    """The same episodes of validation classes each time; None where there are not enough of these."""
    pool = material.pool(material.split.validation, "validation")
    test = material.tests[0]
    ways = min(test.ways, pool.classes)
    try:
        queries = feasible(pool, max(2, ways), test.shots, _VALIDATION_QUERIES)
    except JobError:
        return None
    rng = np.random.default_rng((task.seed, 1))
    episodes = [draw(pool, ways, test.shots, queries, rng) for _ in range(_VALIDATED)]

    truth = np.tile(np.repeat(np.arange(ways), queries), _VALIDATED)

    def validate() -> Validation:
        answer, seen = learner.measured(views)
        said = []
        for episode in episodes:
            task.wishes.check()
            said.append(asked(answer, episode, seen, task.device))
        logits = torch.cat(said).float().cpu().numpy()
        right = float((logits.argmax(axis=1) == truth).mean())
        # How sure it is of itself is not what a state is chosen by: that grows long before it errs more.
        return Validation(calibrated_nll(logits, truth), right)

    return validate


def _trained(
    task: Task,
    learner: Learner,
    material: Material,
    *,
    views: Callable[[bool], Views],
    outcome: Outcome,
    resolved: dict[str, object],
    options: Settled,
) -> Trained:
    merged = task.data.merged()
    answer, seen = learner.measured(views(True))
    backbone = getattr(learner, "backbone", None)
    module = learner.module
    module.eval()
    if backbone is None:
        embedding = task.features(merged.train)
    else:
        embedding = embeddings_of(backbone, merged.train, task.features, task.wishes.check)
    if not np.isfinite(embedding).all():
        raise JobError(
            "The trained weights are not finite.", code="non_finite_loss", param="method", hint="Lower `lr`."
        )
    unseen: NDArray[np.bool_] = np.isin(merged.train.labels, material.split.train, invert=True)
    found = learner.known(embedding, merged.train.labels, len(merged.classes), unseen)
    trained = Trained(
        merged,
        found.head,
        backbone,
        out_of_fold=found.out_of_fold,
        curve=outcome.curve,
        options=resolved,
        few_shot=found.few_shot,
        learnt=Learnt(answer, seen, views(True), material, [*getattr(learner, "notes", [])]),
        notes=_story(outcome, options, material),
    )
    return trained if backbone is None else replace(trained, backbone=backbone)


def _story(outcome: Outcome, options: Settled, material: Material) -> list[str]:
    split, last = material.split, outcome.curve[-1].x if outcome.curve else 0
    notes = [
        f"Trained on episodes of {options.train_ways} out of {len(split.train)} classes"
        f"{_turned(options)}: {options.train_shots} item"
        f"{'s' * (options.train_shots != 1)} of each to learn from, {options.train_queries} to ask about.",
    ]
    if outcome.best_epoch is None:
        notes.append("There were too few classes to choose a state by: the last one was kept.")
    else:
        notes.append(
            f"The state after {outcome.best_epoch / LOOKS:.0%} of the steps was kept: it did best on "
            f"{len(split.validation)} validation classes."
        )
    if outcome.stopped:
        notes.append("Training was stopped on request.")
    elif last < min(LOOKS, options.steps):
        notes.append("Training ended early: nothing better was found.")
    return notes


def _turned(options: Settled) -> str:
    if not options.rotations:
        return ""
    return ", each in four turns" if options.freeze == "all" else ", each in four turns and mirrored"
