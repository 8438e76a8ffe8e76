"""`kernel_cca`: what two kinds of features have in common, learnt from pairs; a classifier for one answers the other.

Hardoon, Szedmak, Shawe-Taylor: Canonical correlation analysis: an overview with application to learning methods, Neural
Computation 2004. Source (n, D) and target (m, E) are brought to K canonical axes, each by a kernel of its own. The
classifier learns from all source items, from paired target items, whose class their partner tells, and in the end from
the other target items, whose class it guesses itself, the surest first. Whatever is left to choose is chosen on pairs
that were left out; no target label has a part in it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.errors import JobError
from core.contract.methods import KernelCca
from worker.engine.heads import Head
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import cca
from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.methods.maths.pseudo_labels import surest
from worker.engine.metrics import softmax
from worker.engine.partners import paired
from worker.engine.stages import Stage
from worker.engine.task import Task, Trained

FEWEST = 10
"""Pairs that a job needs."""
_WIDTHS = (0.5, 1.0, 2.0, 4.0)
_FOLDS = 5


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, KernelCca)
    assert task.data.target is not None
    modalities = task.data.source.modality, task.data.target.collection.manifest.modality
    return adapt(task, lambda found, rng: fit(found, options, rng, modalities))


def fit(
    found: Domains,
    options: KernelCca,
    rng: np.random.Generator,
    modalities: tuple[Modality, Modality] = ("image", "image"),
) -> Adapted:
    """On arrays. Raises `JobError` `too_few_pairs`."""
    rows = paired(found.source_names, found.target_names)
    if len(rows) < FEWEST:
        raise JobError(
            f"{len(rows)} items of the target are paired with one that is learnt from; {FEWEST} are needed.",
            code="too_few_pairs",
            param="target",
            hint="Give both halves of a pair the same file name, whatever their folders and suffixes; without pairs, "
            "take `coral` or `selective_pseudo_labels`.",
        )
    first = lengths(modalities[0]), lengths(modalities[1])
    data = _Views(through(found.xs, first[0]), found.ys, through(found.xt, first[1]), found.classes, rows)
    width = _width(data, options, rng)
    views = _views(data, options, width, rng)
    made = _correlate(data, options, views, np.ones(len(rows), dtype=bool), rounds=options.rounds, rng=rng)
    source, target = ((*way, *stages) for way, stages in zip(first, (made.source, made.target), strict=True))
    return Adapted(
        behind(target, made.head),
        behind(source, made.head),
        options={"pairs": len(rows), "axes": len(made.correlations)} | ({} if width is None else {"width": width}),
        notes=[_told(len(rows), made.correlations)],
    )


@dataclass(frozen=True)
class _Views:
    xs: NDArray[np.float32]
    ys: NDArray[np.int64]
    xt: NDArray[np.float32]
    classes: int
    pairs: NDArray[np.int64]


@dataclass(frozen=True)
class _Made:
    head: Head
    """On the canonical axes."""
    source: tuple[Stage, ...]
    target: tuple[Stage, ...]
    correlations: cca.Array


def _views(
    data: _Views, options: KernelCca, width: float | None, rng: np.random.Generator
) -> tuple[cca.View, cca.View]:
    landmarks = 0 if width is None else options.landmarks
    first, second = (cca.view(x, landmarks, width or 1.0, rng) for x in (data.xs, data.xt))
    return first, second


def _correlate(
    data: _Views,
    options: KernelCca,
    views: tuple[cca.View, cca.View],
    known: NDArray[np.bool_],
    *,
    rounds: int,
    rng: np.random.Generator,
) -> _Made:
    """With those of the pairs that are `known` (p,); target items without a pair are learnt from in `rounds`."""
    ours, theirs = data.pairs[known].T
    found = cca.correlate(*views, (ours, theirs), options.axes, options.regularisation)
    target = found.target(data.xt)
    items, labels = np.concatenate([found.source(data.xs), target[theirs]]), np.concatenate([data.ys, data.ys[ours]])
    # The axes are scaled by how sure they are, and on paired items the domains agree: no need for more caution.
    head = classifier(items, labels, data.classes, options.classifier, rng, cautious=False)
    others = np.delete(target, data.pairs[:, 1], axis=0)
    for step in range(1, rounds + 1 if len(others) else 1):
        odds = softmax(head(others.astype(np.float32)))
        guesses = odds.argmax(axis=1)
        trusted = surest(guesses, odds.max(axis=1), step / rounds)
        more = np.concatenate([items, others[trusted]]), np.concatenate([labels, guesses[trusted]])
        head = classifier(*more, data.classes, options.classifier, rng, cautious=False)
    return _Made(head, found.source.stages(), found.target.stages(), found.correlations)


def _width(data: _Views, options: KernelCca, rng: np.random.Generator) -> float | None:
    """Of the Gaussian kernel; None for the linear one.

    Where it is left open: the one under which target items are answered best whose pairs were left out.
    """
    if options.kernel == "linear":
        return None
    if options.width != "auto":
        return options.width
    truth = data.ys[data.pairs[:, 0]]
    fold = stratified_folds(truth, _FOLDS, rng)
    return max(_WIDTHS, key=lambda width: _likelihood(data, options, width, fold, rng))


def _likelihood(
    data: _Views, options: KernelCca, width: float, fold: NDArray[np.int64], rng: np.random.Generator
) -> float:
    """Mean log probability of the true class of target items whose pair was left out."""
    views, truth = _views(data, options, width, rng), data.ys[data.pairs[:, 0]]
    total = 0.0
    for number in range(_FOLDS):
        out = fold == number
        made = _correlate(data, options, views, ~out, rounds=0, rng=rng)
        logits = made.head(through(data.xt[data.pairs[out, 1]], made.target))
        total += float(np.log(softmax(logits)[np.arange(out.sum()), truth[out]] + 1e-9).sum())
    return total


def _told(pairs: int, correlations: cca.Array) -> str:
    shown = ", ".join(f"{value:.2f}" for value in correlations[:3])
    return f"{pairs} pairs (the same file name in both). Their first canonical correlations, regularised: {shown}."
