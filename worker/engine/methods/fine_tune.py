"""`fine_tune`: gradient training of a head and, as far as wanted, of the base model; from scratch it is pretraining.

Yosinski et al., NeurIPS 2014. By default the head starts from a logistic regression on frozen features (LP-FT: Kumar
et al., ICLR 2022), so that training starts at its accuracy; the best state on validation is kept. The `linear_probe`
that the user could have had without training stays a candidate: it is what comes out unless training is better on
validation by more than one standard error (Breiman et al.: Classification and Regression Trees, 1984), for the probe
then learns from the validation items, too.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from core.contract.errors import JobError
from core.contract.methods import FineTune, LinearProbe
from core.contract.methods.fine_tune import misfit
from core.contract.reports import CurvePoint
from core.recipes import Facts, Settled, resolve
from worker.engine import loop
from worker.engine.backbones import Backbone, Base
from worker.engine.data import Items
from worker.engine.feeds import Floats, embed_all, feature_feed, source
from worker.engine.heads import Head
from worker.engine.loading import workers
from worker.engine.loop import Feed, Plan, Validation
from worker.engine.memory import AtATime
from worker.engine.methods import linear_probe
from worker.engine.methods.network import Course, Orders, follow, plan, repeatable
from worker.engine.methods.supervised import HeadTraining, Supervised, move, optimiser
from worker.engine.methods.validated import answers, clearly_better, diverged, finite, rated
from worker.engine.problems import score
from worker.engine.recipes import distributed, lora, wise
from worker.engine.recipes.objective import Objective
from worker.engine.task import Task, Trained

Validate = Callable[[], Validation]


def needs_features(options: FineTune) -> bool:
    """Whether the frozen base model's features are wanted."""
    return options.init == "pretrained" and (options.head_start or _frozen(options))


def check(options: FineTune, base: Base) -> None:
    """Refuse options that do not fit the base model: `JobError` `unknown_stage` or `invalid_options`."""
    if options.freeze not in {"none", "all", *base.identity.card.stages}:
        base.backbone().frozen(options.freeze)  # says what its stages are
    found = misfit(options, base.identity.card.modality)
    if found is not None:
        raise JobError(found.message, code="invalid_options", param=f"method.{found.field}", hint=found.hint)


def _frozen(options: FineTune) -> bool:
    """Whether the head alone is trained, on items that never change: cached features will do."""
    return options.freeze == "all" and options.augmentation in {"none", "auto"} and options.init == "pretrained"


def run(task: Task) -> Trained:
    """Train; the result has a backbone of its own unless the base model came out unchanged."""
    assert isinstance(task.options, FineTune)
    with repeatable(task.seed, task.device):
        probe = _probe(task, task.data.train, LinearProbe()) if _probed(task.options) else None
        options, reasons = resolve(task.options, _facts(task, probe))
        if _frozen(options):
            options = options.model_copy(update={"devices": 1})  # seconds, and no network
        task.sink("resolved", {"method": options.model_dump(mode="json")})
        head = _first_head(task, options)
        train = _train_head if _frozen(options) else _train_network
        trained = train(task, options, head)
    notes = [*trained.notes, " ".join(["What was left to the data:", *reasons])] if reasons else trained.notes
    return replace(trained, options=options.model_dump(mode="json") | trained.options, notes=notes)


def _facts(task: Task, probe: linear_probe.Fitted | None) -> Facts:
    data, counts = task.data, task.data.train.labels
    if data.problem == "classification":
        counts = np.bincount(counts, minlength=data.outputs)
    return Facts(
        modality=data.source.modality,
        problem=data.problem,
        train_items=len(data.train),
        card=task.base.identity.card,
        class_counts=() if data.problem == "regression" else tuple(map(int, np.atleast_2d(counts).sum(axis=0))),
        device=task.device.type,
        gpus=torch.cuda.device_count() if task.device.type == "cuda" else 0,
        probe=None if probe is None else score(data.problem, probe.out_of_fold, data.train.labels),
    )


def _first_head(task: Task, options: Settled) -> Head:
    """A logistic (or, but for classification, ridge) regression on the frozen features, or small random weights.

    Ridge and standardised features may win by large weights on directions in which the features hardly vary; the first
    steps of training would turn just these over.
    """
    if _probed(options):
        solver: Literal["lbfgs", "ridge"] = "lbfgs" if task.data.problem == "classification" else "ridge"
        found = _probe(task, task.data.train, LinearProbe(solver=solver, normalise="none")).head
        scale = np.float32(options.head_scale)  # as a temperature would: what is likeliest stays so
        return replace(found, weight=scale * found.weight, bias=scale * found.bias)
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
        modality=data.source.modality,
        control=control,
    )


def _objective(task: Task, options: Settled) -> Objective:
    data = task.data
    return Objective.of(options, data.problem, data.train.labels, data.outputs)


def _train_head(task: Task, options: Settled, head: Head) -> Trained:
    data = task.data
    method = HeadTraining(head.as_module().to(task.device), _objective(task, options).to(task.device))
    feed = feature_feed(
        task.features(data.train),
        data.train.labels,
        batch_size=options.batch_size,
        seed=task.seed,
        device=task.device,
    )
    seen = task.features(data.validation) if len(data.validation) else None

    def said() -> Floats:
        assert seen is not None
        return answers(method, seen, _remedy(options))

    validate = None if seen is None else _rating(task, said)
    begin = _state(method, options)
    ahead = plan(options, len(data.train), None, _remedy(options))
    outcome = _loop(task, method, feed, ahead, validate=validate, rule=optimiser(method, options))
    share = _between(method, begin, options, outcome, validate)
    better = _is_better(task, options, head, outcome, said)
    return _trained(task, options, method, outcome, share, better=better)


def _train_network(task: Task, options: Settled, head: Head) -> Trained:
    data, backbone = task.data, copy.deepcopy(task.base.backbone())  # others may still want the frozen one
    begin = _network_state(backbone.module, head, options)
    if options.lora_rank:
        _add_lora(backbone, options.lora_rank, options.lora_alpha)
    course = Course(
        backbone, head, options, _objective(task, options), task.seed, task.threads, len(data.train), _remedy(options)
    )
    ahead = course.plan(task.device)
    sizes = AtATime(task.device, say=lambda before, now: task.steps.say(_fewer(before, now)))
    with workers(task.threads, "augment") as pool, _team(task, course) as team:
        method = course.method(task.device)
        seen = source(data.validation, backbone, share=0.1)

        def said() -> Floats:
            embedding = embed_all(
                backbone.module,
                seen,
                device=task.device,
                pool=pool,
                autocast=ahead.autocast,
                check=task.wishes.check,
                sizes=sizes,
            )
            return answers(method, embedding, _remedy(options))

        feed = course.feed(data.train, task.device, pool, task.wishes.check, team)
        validate = _rating(task, said) if len(data.validation) else None
        outcome = _loop(task, method, feed, ahead, validate=validate, rule=optimiser(method, options), team=team)
        if options.lora_rank:
            _merge(backbone, _remedy(options))
        share = _between(method, begin, options, outcome, validate)
        better = _is_better(task, options, head, outcome, said)
    move(method.module, torch.device("cpu"))
    method.module.eval()
    trained = _trained(task, options, method, outcome, share, better=better)
    kept = options.freeze == "all" or outcome.best_epoch == 0 or not better  # then the network is as it was
    return replace(trained, backbone=None if kept else backbone)


def _add_lora(backbone: Backbone, rank: int, alpha: float) -> None:
    try:
        lora.add_lora(backbone.module, rank, alpha, 0.0)
    except ValueError as error:
        raise JobError(
            f"LoRA cannot add to this base model: {error}.",
            code="invalid_options",
            param="method.lora_rank",
            hint="Set `lora_rank` to null: the weights themselves are trained then.",
        ) from error


def _merge(backbone: Backbone, remedy: str) -> None:
    try:
        lora.merge(backbone.module)
    except ValueError as error:
        raise diverged("The trained weights are not finite.", remedy) from error


@contextmanager
def _team(task: Task, course: Course) -> Iterator[distributed.Team | None]:
    """The processes that train together, where there are several."""
    if course.processes == 1:
        yield None
        return
    task.steps.say(f"Trains in {course.processes} processes, each with its part of every batch.")
    orders = Orders.of(course, task.data.train, task.device)
    with distributed.team(course.processes, task.device, follow, orders, check=task.wishes.check) as found:
        yield found


def _rating(task: Task, said: Callable[[], Floats]) -> Validate:
    data = task.data
    return lambda: rated(said(), data.validation.labels, data.problem)


def _is_better(task: Task, options: Settled, start: Head, outcome: loop.Outcome, said: Callable[[], Floats]) -> bool:
    """Whether validation tells the trained weights from the head start that they had, by one standard error.

    Always so where there is no such start, or too little to tell by.
    """
    items, problem = task.data.validation, task.data.problem
    if not _probed(options) or outcome.best_epoch is None or len(items) < 2:
        return True
    if outcome.best_epoch == 0:
        return False
    return clearly_better(said(), start(task.features(items)), items.labels, problem)


def _trained(
    task: Task, options: Settled, method: Supervised, outcome: loop.Outcome, share: float | None, *, better: bool
) -> Trained:
    """What training came to. Whether that is better than a linear probe is for the contest of the arms to say."""
    notes = _story(outcome, options, share)
    if not better:
        return _as_probe(task, outcome, notes)
    found: dict[str, object] = {} if share is None else {"wise_ft": share}
    head = finite(method, _remedy(options))
    return Trained(task.data, head, curve=outcome.curve, options=found, notes=notes)


def _as_probe(task: Task, outcome: loop.Outcome, notes: list[str]) -> Trained:
    """Training came to nothing better than its start: the probe that the user would have had, fitted to all items."""
    data = task.data.merged()
    fitted = _probe(task, data.train, LinearProbe())
    why = (
        "Training was not better on validation than the linear probe it started from, or not by more than one standard "
        "error: that probe is what comes out."
    )
    return Trained(data, fitted.head, out_of_fold=fitted.out_of_fold, curve=outcome.curve, notes=[*notes, why])


def _loop(
    task: Task,
    method: Supervised,
    feed: Feed,
    ahead: Plan,
    *,
    validate: Validate | None,
    rule: torch.optim.Optimizer,
    team: distributed.Team | None = None,
) -> loop.Outcome:
    def say(point: CurvePoint) -> None:
        figures = {name: value for name, value in point.model_dump(exclude={"x"}).items() if value is not None}
        task.sink("metric", {"epoch": point.x, **figures})

    def progress(epoch: int, share: float, eta: float) -> None:
        task.steps.progress("train", share, epoch=epoch, epochs=ahead.epochs, eta_seconds=eta)

    return loop.train(
        method,
        feed,
        rule,
        ahead,
        device=task.device,
        validate=validate,
        wishes=task.wishes,
        checkpoints=task.checkpoints,
        say=say,
        tell=task.steps.say,
        progress=progress,
        team=team,
    )


def _state(method: Supervised, options: Settled) -> wise.State:
    """The weights before training, where they are wanted later."""
    return {} if options.wise_ft is None else wise.copied(method.module)


def _network_state(backbone: torch.nn.Module, head: Head, options: Settled) -> wise.State:
    module = torch.nn.ModuleDict({"backbone": backbone, "head": head.as_module()})
    return {} if options.wise_ft is None else wise.copied(module)


def _between(
    method: Supervised, begin: wise.State, options: Settled, outcome: loop.Outcome, validate: Validate | None
) -> float | None:
    """Put weights between those before and after training into the method, if that is wanted; returns the share."""
    if options.wise_ft is None or outcome.best_epoch == 0:
        return None
    shares = wise.SHARES if options.wise_ft == "auto" else (options.wise_ft,)
    if validate is None:
        share = 1.0 if options.wise_ft == "auto" else options.wise_ft
        method.module.load_state_dict(wise.between(begin, method.module.state_dict(), share))
        return share
    best = (outcome.best_loss, 1.0) if options.wise_ft == "auto" else (float("inf"), 1.0)
    end = wise.copied(method.module)
    for share in shares:
        method.module.load_state_dict(wise.between(begin, end, share))
        best = min(best, (validate().loss, share))
    method.module.load_state_dict(wise.between(begin, end, best[1]))
    outcome.best_loss = best[0]
    return best[1]


def _story(outcome: loop.Outcome, options: Settled, share: float | None) -> list[str]:
    last = outcome.curve[-1].x if outcome.curve else 0
    notes = []
    if outcome.stopped:
        notes.append(f"Training was stopped on request after {last:.3g} of {options.epochs} epochs.")
    elif last < options.epochs:
        notes.append(f"Training ended after epoch {last:.0f}: validation had not improved for {options.early_stop}.")
    if outcome.best_epoch is None:
        notes.append("There are no validation items, so the weights of the last step were kept.")
    else:
        what = "is the moving average of the weights" if outcome.averaged else "are the weights"
        notes.append(f"Best on validation {what} after epoch {outcome.best_epoch:.3g}.")
    if share is not None:
        notes.append(f"The weights lie between those before training and these, at {share:g} of the way (WiSE-FT).")
    return notes


def _remedy(options: Settled) -> str:
    """What to do when the loss stops being a number, with the values that made it so."""
    return (
        f"Lower `head_lr` (it was {options.head_lr:g}) and `backbone_lr` ({options.backbone_lr:g}), or lengthen "
        f"`warmup` ({options.warmup:g} of the steps)."
    )


def _fewer(before: int, now: int) -> str:
    return f"Out of memory with {before} images at a time in validation: goes on with {now}."
