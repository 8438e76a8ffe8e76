"""`adapt_few_shot`: a plain classifier from a few items of each class, by the start that the base model was given.

Finn, Abbeel, Levine: MAML. ICML 2017; Wang et al.: SimpleShot. arXiv 2019. By inner steps the network and a linear head
are moved from a meta-learnt start by all items (n, …) at once; else features (n, D) of the frozen network, as the base
model compares them, are told apart by class means or by ridge regression. Class means can take in a target's items.
"""

import numpy as np
import torch
from torch.nn.functional import one_hot

from core.contract.errors import JobError
from core.contract.few_shot import Initialisation
from core.contract.methods import AdaptFewShot as Options
from core.contract.methods import LinearProbe
from core.contract.models import ModelManifest
from worker.engine.backbones import own
from worker.engine.class_stages import Centred
from worker.engine.data import Items as DataItems
from worker.engine.data import JobData
from worker.engine.feeds import Floats
from worker.engine.few_shot import adapting, class_heads
from worker.engine.few_shot.settling import misfit
from worker.engine.heads import Head
from worker.engine.methods import linear_probe
from worker.engine.methods.adapting import target_items
from worker.engine.methods.maths import transductive
from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.methods.maths.inner_loop import Items
from worker.engine.methods.simple_shot import stages_about
from worker.engine.stages import Stage, Unit
from worker.engine.task import Task, Trained

_FOLDS = 5
_MOST = class_heads.MOST_ITEMS  # of a class that steps are taken on


def needs_features(options: Options) -> bool:
    """Whether the frozen base model's features are needed for sure: inner steps may change the network."""
    return options.how in {"class_means", "ridge"} or options.transductive != "none"


def run(task: Task) -> Trained:
    """Adapt; what `auto` became stands in the options of what comes out."""
    options = task.options
    assert isinstance(options, Options)
    merged = task.data.merged()
    if merged.problem != "classification":
        raise misfit("name", f"Classes are learnt from a few items; this is {merged.problem}.")
    found = None if task.parent is None else own.manifest(task.parent)
    start = found.few_shot.initialisation if found and found.few_shot else None
    how = _how(options, found, start)
    if how == "inner_steps":
        assert found is not None
        if start is None:
            raise AssertionError
        return _by_steps(task, merged, found, start)
    if options.transductive != "none":
        return _together(task, merged, found)
    return _by_ridge(task, merged) if how == "ridge" else _by_means(task, merged, found)


def _how(options: Options, found: ModelManifest | None, start: Initialisation | None) -> str:
    """`auto` is what the base model was made for."""
    if options.transductive != "none" and options.how not in {"auto", "class_means"}:
        raise misfit("transductive", "It is class means that items of a target can move.")
    if options.how == "inner_steps" and start is None:
        raise JobError(
            "The base model has no meta-learnt start.",
            code="no_meta_learnt_start",
            param="method.how",
            hint="Start from a model that `maml`, `anil`, `meta_sgd` or `reptile` made (`mdl_…`), or leave `how` out.",
        )
    if options.how != "auto":
        return options.how
    if options.transductive == "none" and start is not None:
        return "inner_steps"
    few = None if found is None else found.few_shot
    return "ridge" if few is not None and few.kind == "ridge" and options.transductive == "none" else "class_means"


def _by_steps(task: Task, merged: JobData, found: ModelManifest, start: Initialisation) -> Trained:
    options, classes = task.options, len(merged.classes)
    assert isinstance(options, Options)
    assert task.parent is not None
    steps = None if options.inner_steps == "auto" else options.inner_steps
    lr = None if options.inner_lr == "auto" else options.inner_lr
    how = adapting.with_steps(start, steps, lr)
    opened = adapting.open_start(task, task.parent, found, how)
    rows = _few(merged.train.labels, classes)
    items = DataItems(merged.train.collection, merged.train.indices[rows], merged.train.labels[rows])
    inputs, labels = opened.inputs(task, items), torch.from_numpy(items.labels).to(task.device)

    def some(chosen: torch.Tensor) -> Items:
        return Items(inputs[chosen], one_hot(labels[chosen], classes).to(inputs.dtype))

    out_of_fold = np.full((len(merged.train), classes), np.nan, dtype=np.float32)
    folds = stratified_folds(items.labels, _FOLDS, task.rng())
    for number in np.unique(folds[folds >= 0]):
        task.wishes.check()
        left = torch.from_numpy(folds == number).to(task.device)
        known = some(~left)
        said = opened.logits(opened.adapt(known), known, inputs[left])
        out_of_fold[rows[folds == number]] = said.float().cpu().numpy()
    known = some(torch.ones_like(labels, dtype=torch.bool))
    head, backbone = opened.settle(opened.adapt(known), known)
    return Trained(
        merged,
        head,
        backbone,
        out_of_fold=out_of_fold,
        options={"how": "inner_steps", "inner_steps": how.inner_steps, "inner_lr": how.inner_lr},
        notes=[f"{how.inner_steps} steps from the start that {how.method} has learnt, on {len(rows)} items."],
    )


def _few(labels: class_heads.Ints, classes: int) -> class_heads.Ints:
    """Rows of the first items of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == number)[:_MOST] for number in range(classes)]))


def _compared(task: Task, found: ModelManifest | None, features: Floats) -> tuple[tuple[Stage, ...], float]:
    """How features (n, D) are made ready to be compared: as the base model does it, else as SimpleShot; the scale."""
    few = None if found is None else found.few_shot
    if few is None or found is None or few.kind not in {"class_means", "ridge"} or task.parent is None:
        return stages_about(features), 1.0
    head = own.head(task.parent, found)
    return (stages_about(features), 1.0) if head is None else (head.before[: head.compared_at], few.scale)


def _by_means(task: Task, merged: JobData, found: ModelManifest | None) -> Trained:
    features, labels = task.features(merged.train), merged.train.labels
    stages, scale = _compared(task, found, features)
    everything = np.ones(len(labels), dtype=bool)
    known = class_heads.by_means(features, labels, len(merged.classes), stages, scale=scale, unseen=everything)
    options: dict[str, object] = {"how": "class_means"}
    return Trained(merged, known.head, out_of_fold=known.out_of_fold, options=options, few_shot=known.few_shot)


def _by_ridge(task: Task, merged: JobData) -> Trained:
    features, labels = task.features(merged.train), merged.train.labels
    probe = LinearProbe(solver="ridge")
    found = linear_probe.fit(features, labels, len(merged.classes), probe, rng=task.rng())
    return Trained(merged, found.head, out_of_fold=found.out_of_fold, options={"how": "ridge"}, notes=found.notes)


def _together(task: Task, merged: JobData, found: ModelManifest | None) -> Trained:
    """Class means, moved by the target's items."""
    options = task.options
    assert isinstance(options, Options)
    features, labels = task.features(merged.train), merged.train.labels
    stages, _ = _compared(task, found, features)
    stages = (*stages, Unit())
    known, asked = (_through(stages, part) for part in (features, task.features(target_items(task))))
    means = class_heads.means_of(known, labels, len(merged.classes)).astype(np.float32)
    support, query = torch.from_numpy(means)[:, None], torch.from_numpy(asked)
    if options.transductive == "bd_cspn":
        support = torch.nn.functional.normalize(support, dim=-1)
        weight = 10 * transductive.rectified(support, query).numpy()
        shift = support[:, 0].mean(dim=0) - query.mean(dim=0)
        head = Head(weight, np.zeros(len(weight), dtype=np.float32), before=(*stages, Centred(-shift.numpy()), Unit()))
    else:
        moved = transductive.tim_weights(support, query).numpy()
        head = Head(15 * moved, -7.5 * np.square(moved).sum(axis=1), before=stages)
    return Trained(
        merged, head, options={"how": "class_means"}, notes=["Class means were moved by the target's items."]
    )


def _through(stages: tuple[Stage, ...], x: Floats) -> Floats:
    for stage in stages:
        x = stage(x)
    return x
