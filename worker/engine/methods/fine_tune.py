"""`fine_tune`: gradient training of a head and, as far as wanted, of the base model; from scratch it is pretraining.

Yosinski et al., NeurIPS 2014. By default the head starts from a logistic regression on frozen features (LP-FT: Kumar
et al., ICLR 2022), so that training starts at its accuracy; the best state on validation is kept. The `linear_probe`
that the user could have had without training stays a candidate: if it is better on validation, it is what comes out.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from core.contract.datasets import Problem
from core.contract.errors import JobError
from core.contract.methods import FineTune, LinearProbe
from core.contract.prepare import ImagePrepare
from core.contract.reports import CurvePoint
from worker.engine import augment, loop
from worker.engine.backbones import Base
from worker.engine.calibration import calibrated_nll
from worker.engine.data import Items
from worker.engine.feeds import Floats, embed_all, feature_feed, image_feed, item_feed, source
from worker.engine.heads import Head
from worker.engine.images import ImageCache
from worker.engine.loading import workers
from worker.engine.loop import Feed, Plan, Validation
from worker.engine.memory import AtATime
from worker.engine.methods import linear_probe
from worker.engine.methods.supervised import HeadTraining, NetworkTraining, move, optimiser, still_norms
from worker.engine.prepared import PreparedItems
from worker.engine.problems import Targets, score
from worker.engine.task import Task, Trained

REMEDY = "Lower `head_lr` and `backbone_lr`, or lengthen `warmup`."


def needs_features(options: FineTune) -> bool:
    """Whether the frozen base model's features are wanted."""
    return options.init == "pretrained" and (options.head_start or _frozen(options))


def check(options: FineTune, base: Base) -> None:
    """Refuse options that do not fit the base model: `JobError` `unknown_stage` or `invalid_options`."""
    if options.freeze not in {"none", "all", *base.identity.card.stages}:
        base.backbone().frozen(options.freeze)  # says what its stages are
    if options.init == "scratch" and options.freeze != "none":
        raise JobError(
            "A network that starts from random weights cannot be frozen.",
            code="invalid_options",
            param="method.freeze",
            hint="Set `freeze` to `none`, or `init` to `pretrained`.",
        )


def _frozen(options: FineTune) -> bool:
    """Whether the head alone is trained, on items that never change: cached features will do."""
    return options.freeze == "all" and options.augmentation == "none"


def run(task: Task) -> Trained:
    """Train; the result has a backbone of its own unless the base model came out unchanged."""
    options = task.options
    assert isinstance(options, FineTune)
    with _repeatable(task.seed, task.device):
        head = _first_head(task, options)
        if _frozen(options) and options.init == "pretrained":
            return _train_head(task, options, head)
        return _train_network(task, options, head)


def _first_head(task: Task, options: FineTune) -> Head:
    """A logistic (or, but for classification, ridge) regression on the frozen features, or small random weights.

    Ridge and standardised features may win by large weights on directions in which the features hardly vary; the first
    steps of training would turn just these over.
    """
    if _probed(options):
        solver: Literal["lbfgs", "ridge"] = "lbfgs" if task.data.problem == "classification" else "ridge"
        return _probe(task, task.data.train, LinearProbe(solver=solver, normalise="none")).head
    shape = task.data.outputs, task.base.identity.card.width
    weight = task.rng().normal(0, 0.01, shape).astype(np.float32)
    return Head(weight, np.zeros(shape[0], dtype=np.float32))


def _probed(options: FineTune) -> bool:
    return options.head_start and options.init == "pretrained"


def _probe(task: Task, items: Items, options: LinearProbe) -> linear_probe.Fitted:
    control = linear_probe.Control(check=task.wishes.check)
    data = task.data
    return linear_probe.fit(
        task.features(items),
        items.labels,
        data.outputs,
        options,
        rng=task.rng(),
        problem=data.problem,
        control=control,
    )


def _train_head(task: Task, options: FineTune, head: Head) -> Trained:
    data = task.data
    method = HeadTraining(head.as_module().to(task.device), options.label_smoothing, data.problem)
    feed = feature_feed(
        task.features(data.train),
        data.train.labels,
        batch_size=options.batch_size,
        seed=task.seed,
        device=task.device,
    )
    seen = task.features(data.validation) if len(data.validation) else None

    def validate() -> Validation:
        assert seen is not None
        return validation(method, seen, data.validation.labels, data.problem, _remedy(options))

    outcome = _loop(task, options, method, feed, validate=None if seen is None else validate)
    return _trained(task, options, method, outcome)


def _train_network(task: Task, options: FineTune, head: Head) -> Trained:
    data, backbone = task.data, copy.deepcopy(task.base.backbone())  # others may still want the frozen one
    still = still_norms(options, len(data.train))
    method = NetworkTraining(backbone, head.as_module(), options, data.problem, still_norms=still)
    move(method.module, task.device)
    precision = _precision(options, task.device)
    sizes = AtATime(task.device, say=lambda before, now: task.steps.say(_fewer(before, now)))
    with workers(task.threads, "augment") as pool:
        feed = _feed(task, options, pool)
        seen = source(data.validation, backbone, share=0.1)

        def validate() -> Validation:
            embedding = embed_all(
                backbone.module,
                seen,
                device=task.device,
                pool=pool,
                autocast=precision,
                check=task.wishes.check,
                sizes=sizes,
            )
            return validation(method, embedding, data.validation.labels, data.problem, _remedy(options))

        outcome = _loop(
            task, options, method, feed, validate=validate if len(data.validation) else None, precision=precision
        )
    move(method.module, torch.device("cpu"))
    method.module.eval()
    trained = _trained(task, options, method, outcome)
    kept = options.freeze == "all" or outcome.best_epoch == 0  # then the network is as it was
    return replace(trained, backbone=None if kept else backbone)


def _feed(task: Task, options: FineTune, pool: ThreadPoolExecutor) -> Feed:
    """Batches of training items: augmented images, or texts and rows as they are."""
    train, config = task.data.train, task.base.identity.card.prepare
    ahead, check = task.threads + 1, task.wishes.check
    if not isinstance(config, ImagePrepare):
        return item_feed(
            PreparedItems(train, task.base.preparer(), share=0.4),
            batch_size=options.batch_size,
            seed=task.seed,
            device=task.device,
            pool=pool,
            ahead=ahead,
            check=check,
        )
    return image_feed(
        ImageCache(train, config, share=0.4),
        augment.recipe(options.augmentation, horizontal_flip=options.horizontal_flip),
        batch_size=options.batch_size,
        seed=task.seed,
        device=task.device,
        pool=pool,
        ahead=ahead,
        check=check,
    )


def _trained(task: Task, options: FineTune, method: loop.Method, outcome: loop.Outcome) -> Trained:
    """What training came to. Whether that is better than a linear probe is for the contest of the arms to say."""
    notes = _story(outcome, options)
    return Trained(task.data, _finite(method, _remedy(options)), curve=outcome.curve, notes=notes)


def _loop(
    task: Task,
    options: FineTune,
    method: loop.Method,
    feed: Feed,
    *,
    validate: Callable[[], Validation] | None,
    precision: torch.dtype | None = None,
) -> loop.Outcome:
    plan = Plan(
        epochs=options.epochs,
        steps_per_epoch=-(-len(task.data.train) // options.batch_size),
        warmup=options.warmup,
        patience=options.early_stop,
        autocast=precision,
        remedy=_remedy(options),
    )

    def say(point: CurvePoint) -> None:
        figures = {name: value for name, value in point.model_dump(exclude={"x"}).items() if value is not None}
        task.sink("metric", {"epoch": point.x, **figures})

    def progress(epoch: int, share: float, eta: float) -> None:
        task.steps.progress("train", share, epoch=epoch, epochs=options.epochs, eta_seconds=eta)

    return loop.train(
        method,
        feed,
        optimiser(method, options),
        plan,
        device=task.device,
        validate=validate,
        wishes=task.wishes,
        checkpoints=task.checkpoints,
        say=say,
        tell=task.steps.say,
        progress=progress,
    )


def validation(
    method: loop.Method, embedding: Floats, labels: Targets, problem: Problem, remedy: str = REMEDY
) -> Validation:
    """The loss is the one after temperature scaling: a model is served calibrated, so its scale must not decide."""
    head = _finite(method, remedy)
    with np.errstate(all="ignore"):
        logits = head(embedding)
    if not np.isfinite(logits).all():
        raise _diverged("The network's outputs are not finite.", remedy)
    return Validation(calibrated_nll(logits, labels, problem), score(problem, logits, labels), problem)


def _story(outcome: loop.Outcome, options: FineTune) -> list[str]:
    last = outcome.curve[-1].x if outcome.curve else 0
    notes = []
    if outcome.stopped:
        notes.append(f"Training was stopped on request after {last:.3g} of {options.epochs} epochs.")
    elif last < options.epochs:
        notes.append(f"Training ended after epoch {last:.0f}: validation had not improved for {options.early_stop}.")
    if outcome.best_epoch is None:
        notes.append("There are no validation items, so the weights of the last step were kept.")
    else:
        notes.append(f"The best weights on validation are those after epoch {outcome.best_epoch:.3g}.")
    return notes


def _finite(method: loop.Method, remedy: str) -> Head:
    try:
        return method.deployable()
    except ValueError as error:
        raise _diverged("The trained weights are not finite.", remedy) from error


def _diverged(what: str, remedy: str) -> JobError:
    return JobError(what, code="non_finite_loss", param="method", hint=remedy)


def _remedy(options: FineTune) -> str:
    """What to do when the loss stops being a number, with the values that made it so."""
    return (
        f"Lower `head_lr` (it was {options.head_lr:g}) and `backbone_lr` ({options.backbone_lr:g}), or lengthen "
        f"`warmup` ({options.warmup:g} of the steps)."
    )


def _fewer(before: int, now: int) -> str:
    return f"Out of memory with {before} images at a time in validation: goes on with {now}."


def _precision(options: FineTune, device: torch.device) -> torch.dtype | None:
    if not options.mixed_precision or device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@contextmanager
def _repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """The same seed gives the same weights: dropout and its like draw from torch's own generators."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True),
    ):
        torch.manual_seed(seed)
        yield
