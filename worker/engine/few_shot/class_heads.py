"""Heads that know a class by its items: by their mean, or one by one. Each item is asked about without itself.

Snell, Swersky, Zemel, NIPS 2017; Vinyals et al., NIPS 2016.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from worker.engine.class_stages import LEAST, Distances, Likeness, RelationModule
from worker.engine.feeds import Floats
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.learnt import FewShotHead
from worker.engine.heads import Head
from worker.engine.stages import Stage

Ints = NDArray[np.int64]
MOST_ITEMS = 50  # of a class that are kept where they are kept one by one
_FAR = 4.0  # an item that is alone in its class is so many times further from it than any other is from its own
_KEPT = 0.95
_ENOUGH = 20  # items that a threshold can be told from


def counts_of(labels: Ints, classes: int) -> Ints:
    """Items of each class (C,)."""
    return np.bincount(labels, minlength=classes)


def means_of(z: Floats, labels: Ints, classes: int) -> NDArray[np.float64]:
    """Class means (C, K) of vectors (n, K); every class needs an item."""
    sums = np.zeros((classes, z.shape[1]))
    np.add.at(sums, labels, z)
    found: NDArray[np.float64] = sums / counts_of(labels, classes)[:, None]
    return found


def without_itself(
    z: Floats, labels: Ints, means: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each item the mean (n, K) of its class's other items, and whether there is none."""
    counts = counts_of(labels, len(means))[labels][:, None]
    return (means[labels] * counts - z) / np.maximum(counts - 1, 1), counts[:, 0] < 2


def by_means(
    embedding: Floats,
    labels: Ints,
    classes: int,
    stages: tuple[Stage, ...],
    *,
    scale: float,
    unseen: NDArray[np.bool_],
) -> Known:
    """A head by the nearest class mean of what `stages` make of embeddings (n, D)."""
    z = _through(stages, embedding)
    means = means_of(z, labels, classes)
    stage = Distances(means.astype(np.float32))
    near = stage(z).astype(np.float64)
    others, alone = without_itself(z, labels, means)
    own = -np.square(z - others).sum(axis=1)
    near[np.arange(len(z)), labels] = np.where(alone, _FAR * near.min(initial=-1.0), own)
    logits = (scale * near).astype(np.float32)
    head = Head(
        np.float32(scale) * np.eye(classes, dtype=np.float32),
        np.zeros(classes, dtype=np.float32),
        before=(*stages, stage),
    )
    told = FewShotHead("class_means", counts_of(labels, classes).tolist(), scale, least_logit(logits, unseen & ~alone))
    return Known(head, logits, told)


def by_items(
    embedding: Floats,
    labels: Ints,
    classes: int,
    stages: tuple[Stage, ...],
    *,
    scale: float,
    unseen: NDArray[np.bool_],
) -> Known:
    """A head by the likeness to single items, at most 50 of each class."""
    z = _through(stages, embedding)
    kept = np.concatenate([np.flatnonzero(labels == number)[:MOST_ITEMS] for number in range(classes)])
    stage = Likeness.of(z[kept], labels[kept], classes, scale)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    near = np.exp(scale * (unit.astype(np.float64) @ stage.items.T - 1))
    counts = counts_of(labels[kept], classes)
    shares = near @ stage.member
    itself = np.zeros(len(z))
    itself[kept] = near[kept, np.arange(len(kept))]
    of_own, is_kept = counts[labels], np.isin(np.arange(len(z)), kept)
    alone = is_kept & (of_own < 2)
    own = shares[np.arange(len(z)), labels] * of_own - itself
    shares[np.arange(len(z)), labels] = np.where(alone, LEAST, own / np.maximum(of_own - is_kept, 1))
    logits = np.log(np.maximum(shares, LEAST)).astype(np.float32)
    head = Head(np.eye(classes, dtype=np.float32), np.zeros(classes, dtype=np.float32), before=(*stages, stage))
    told = FewShotHead("items", counts.tolist(), scale, least_logit(logits, unseen & ~alone))
    return Known(head, logits, told)


def least_logit(logits: Floats, honest: NDArray[np.bool_]) -> float | None:
    """What the highest logit is of at least 95 % of known classes' items (n, C), those that `honest` (n,) tells apart.

    None where too few items are there to tell.
    """
    if honest.sum() < _ENOUGH:
        return None
    return float(np.quantile(logits[honest].max(axis=1), 1 - _KEPT))


def by_relation(
    embedding: Floats,
    labels: Ints,
    classes: int,
    stages: tuple[Stage, ...],
    *,
    relation: RelationModule,
    unseen: NDArray[np.bool_],
) -> Known:
    """A head by a learnt rating beside each class's mean."""
    z = _through(stages, embedding)
    means = means_of(z, labels, classes)
    stage = relation.with_means(means.astype(np.float32))
    logits = stage(z)
    others, alone = without_itself(z, labels, means)
    relation.cpu()
    own = relation.compare(torch.from_numpy(z)[:, None], torch.from_numpy(others.astype(np.float32))[:, None])
    own_logit = own[:, 0, 0].detach().numpy()
    logits[np.arange(len(z)), labels] = np.where(alone, logits.min(initial=0.0), own_logit)
    head = Head(np.eye(classes, dtype=np.float32), np.zeros(classes, dtype=np.float32), before=(*stages, stage))
    told = FewShotHead("relation", counts_of(labels, classes).tolist(), 1.0, least_logit(logits, unseen & ~alone))
    return Known(head, logits, told)


def by_ridge(
    embedding: Floats,
    labels: Ints,
    classes: int,
    stages: tuple[Stage, ...],
    *,
    penalty: float,
    scale: float,
    unseen: NDArray[np.bool_],
) -> Known:
    """A head by ridge regression on all items, of which the sums are kept that a new class is solved with."""
    z = _through(stages, embedding).astype(np.float64)
    x = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    truth = np.eye(classes)[labels]
    gram, sums = x.T @ x, truth.T @ x
    inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
    weights = sums @ inverse
    fitted = x @ weights.T
    leverage = np.einsum("nk,kl,nl->n", x, inverse, x)[:, None]
    logits = (scale * (fitted - leverage * truth) / np.maximum(1 - leverage, 1e-6)).astype(np.float32)
    head = Head(
        (scale * weights[:, :-1]).astype(np.float32), (scale * weights[:, -1]).astype(np.float32), before=stages
    )
    kept = {"gram": gram, "sums": sums, "penalty": np.array([penalty]), "scale": np.array([scale])}
    tensors = {f"few_shot.{name}": np.ascontiguousarray(part, dtype=np.float32) for name, part in kept.items()}
    counts = counts_of(labels, classes)
    told = FewShotHead("ridge", counts.tolist(), scale, least_logit(logits, unseen & (counts[labels] > 1)), tensors)
    return Known(head, logits, told)


def _through(stages: tuple[Stage, ...], embedding: Floats) -> Floats:
    for stage in stages:
        embedding = stage(embedding)
    return embedding
