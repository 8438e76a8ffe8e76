"""What it takes to add a class to a few-shot head, or to take one away: tensors by name in, changed tensors out.

A head knows a class by what stands in its tensors (docs/few_shot.md). N items, C classes, K figures of an item's inner
vector, which is what the head compares with its classes; M single items. All tensors are float32; sums are made in
float64.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from core.contract.few_shot import HeadKind

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[np.float32]]
MOST_ITEMS = 50
"""Of one class that `items` keeps."""
WEIGHT, BIAS = "head.weight", "head.bias"
GRAM, SUMS, PENALTY, SCALE = (f"few_shot.{name}" for name in ("gram", "sums", "penalty", "scale"))
_EPSILON = 1e-12  # of a length that is divided by


def added(kind: HeadKind, tensors: Tensors, inner: Floats) -> dict[str, Floats]:
    """The tensors that change when a class of items with these inner vectors (n, K) becomes the last one.

    `KeyError` or `ValueError` where the tensors are none of such a head.
    """
    if inner.ndim != 2 or not len(inner) or not np.isfinite(inner).all():
        raise ValueError("a class is learnt from at least one finite vector")
    return _floats(_ADDED[kind](tensors, inner))


def removed(kind: HeadKind, tensors: Tensors, index: int) -> dict[str, Floats]:
    """The tensors that change when the class of that number is taken away; `KeyError` or `ValueError` likewise."""
    classes = len(tensors[WEIGHT])
    if classes < 3 or not 0 <= index < classes:
        raise ValueError("two classes have to be left")
    return _floats(_REMOVED[kind](tensors, index))


def counted(kind: HeadKind, items: int) -> int:
    """How many of so many items a class of that kind of head is learnt from."""
    return min(items, MOST_ITEMS) if kind == "items" else items


def _floats(found: Mapping[str, NDArray[np.floating]]) -> dict[str, Floats]:
    return {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in found.items()}


def _name(tensors: Tensors, part: str) -> str:
    """The name of a tensor of the last stage that has one so called: classes are compared at the end."""
    stages = [int(match[1]) for name in tensors if (match := re.fullmatch(rf"head\.before\.(\d+)\.{part}", name))]
    if not stages:
        raise KeyError(f"head.before.*.{part}")
    return f"head.before.{max(stages)}.{part}"


def _diagonal(tensors: Tensors, classes: int) -> dict[str, NDArray[np.floating]]:
    """The affine map at the head's end for another number of classes: it multiplies each figure by the same scale."""
    scale = tensors[WEIGHT][0, 0]
    return {WEIGHT: scale * np.eye(classes, dtype=np.float32), BIAS: np.zeros(classes, dtype=np.float32)}


def _with_mean(tensors: Tensors, inner: Floats) -> dict[str, NDArray[np.floating]]:
    name = _name(tensors, "means")
    means = np.vstack([tensors[name], inner.mean(axis=0, dtype=np.float64)])
    return {name: means, **_diagonal(tensors, len(means))}


def _without_mean(tensors: Tensors, index: int) -> dict[str, NDArray[np.floating]]:
    name = _name(tensors, "means")
    means = np.delete(tensors[name], index, axis=0)
    return {name: means, **_diagonal(tensors, len(means))}


def _with_items(tensors: Tensors, inner: Floats) -> dict[str, NDArray[np.floating]]:
    name, belongs = _name(tensors, "items"), _name(tensors, "member")
    member, new = tensors[belongs], inner[:MOST_ITEMS].astype(np.float64)
    new = new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), _EPSILON)
    rows, classes = member.shape
    wider = np.zeros((rows + len(new), classes + 1))
    wider[:rows, :classes] = member
    wider[rows:, classes] = 1 / len(new)
    return {name: np.vstack([tensors[name], new]), belongs: wider, **_diagonal(tensors, classes + 1)}


def _without_items(tensors: Tensors, index: int) -> dict[str, NDArray[np.floating]]:
    name, belongs = _name(tensors, "items"), _name(tensors, "member")
    member = tensors[belongs]
    stay = member[:, index] == 0
    narrower = np.delete(member[stay], index, axis=1)
    return {name: tensors[name][stay], belongs: narrower, **_diagonal(tensors, narrower.shape[1])}


def _with_sums(tensors: Tensors, inner: Floats) -> dict[str, NDArray[np.floating]]:
    x = np.concatenate([inner, np.ones((len(inner), 1))], axis=1, dtype=np.float64)
    gram, sums = tensors[GRAM] + x.T @ x, np.vstack([tensors[SUMS], x.sum(axis=0)])
    return {GRAM: gram, SUMS: sums, **_solved(tensors, gram, sums)}


def _without_sums(tensors: Tensors, index: int) -> dict[str, NDArray[np.floating]]:
    """The class's items stay in the Gram matrix, as items of none of the classes: which they were is not kept."""
    sums = np.delete(tensors[SUMS], index, axis=0)
    return {SUMS: sums, **_solved(tensors, tensors[GRAM], sums)}


def _solved(
    tensors: Tensors, gram: NDArray[np.floating], sums: NDArray[np.floating]
) -> dict[str, NDArray[np.floating]]:
    weight, bias = ridge(gram, sums, float(tensors[PENALTY][0]), float(tensors[SCALE][0]))
    return {WEIGHT: weight, BIAS: bias}


def ridge(
    gram: NDArray[np.floating], sums: NDArray[np.floating], penalty: float, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (C, K) and bias (C,) of the ridge regression on one-hot targets, times `scale`.

    From `gram` (K + 1, K + 1) of the items' vectors with a 1 at their end, and their `sums` (C, K + 1) over each class.
    """
    held = gram.astype(np.float64) + penalty * np.eye(len(gram))
    found = scale * np.asarray(np.linalg.solve(held, sums.astype(np.float64).T).T, dtype=np.float64)
    return found[:, :-1], found[:, -1]


_ADDED: dict[HeadKind, Callable[[Tensors, Floats], dict[str, NDArray[np.floating]]]] = {
    "class_means": _with_mean,
    "items": _with_items,
    "relation": _with_mean,
    "ridge": _with_sums,
}
_REMOVED: dict[HeadKind, Callable[[Tensors, int], dict[str, NDArray[np.floating]]]] = {
    "class_means": _without_mean,
    "items": _without_items,
    "relation": _without_mean,
    "ridge": _without_sums,
}
