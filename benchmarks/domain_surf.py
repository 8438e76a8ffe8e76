"""Adapting on the SURF counts of Office-Caltech10, twelve pairs: the features of most published figures.

`--data DIR` holds `office_caltech10/surf`. The published protocol: counts over their sum, standardised in each domain,
all source items, all target items. Options are the published ones, or the defaults, the same for all pairs; no label
of the target chooses anything.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from benchmarks.common import Table, parser
from benchmarks.sets import DOMAINS
from core.contract.methods import (
    Coral,
    Jda,
    LinearOt,
    LinearProbe,
    Meda,
    SelectivePseudoLabels,
    SinkhornOt,
    SubspaceAlignment,
    Tca,
)
from worker.engine.heads import Head
from worker.engine.methods import (
    coral,
    jda,
    linear_ot,
    linear_probe,
    meda,
    selective_pseudo_labels,
    sinkhorn_ot,
    subspace_alignment,
    tca,
)
from worker.engine.methods.adapting import Domains
from worker.engine.methods.maths.neighbours import nearest_labels
from worker.engine.methods.maths.subspaces import principal
from worker.engine.metrics import softmax

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
CLASSES = 10
PUBLISHED_AXES = 30
AXES, SHRINKAGES = (64, 100, 128, 180, 256), (0.1, 0.3, 0.5)
Answer = Callable[[Domains], Ints]


def load(data: Path) -> dict[str, tuple[Floats, Ints]]:
    """Features (n, 800) and classes (n,) of each domain."""
    return {name: _domain(data / "office_caltech10" / "surf" / f"{name}.mat") for name in DOMAINS}


def _domain(path: Path) -> tuple[Floats, Ints]:
    found = scipy.io.loadmat(path)
    share = found["fts"] / found["fts"].sum(axis=1, keepdims=True)
    spread = share.std(axis=0, ddof=1)
    scaled = (share - share.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled.astype(np.float32), found["labels"].ravel().astype(np.int64) - 1


def pairs(domains: dict[str, tuple[Floats, Ints]]) -> Iterator[tuple[str, Domains, Ints]]:
    """Every ordered pair: its name, what a method may see, and the truth."""
    for one, other in permutations(domains, 2):
        (xs, ys), (xt, truth) = domains[one], domains[other]
        yield f"{one} -> {other}", Domains(xs, ys, xt, np.full(len(xt), -1), CLASSES, [], []), truth


def nearest(found: Domains) -> Ints:
    """The nearest source item."""
    return np.asarray(nearest_labels(found.xs, found.ys, found.xt), dtype=np.int64)


def pca(found: Domains) -> Ints:
    """The same on the principal axes of both domains together."""
    _, axes = principal(np.concatenate([found.xs, found.xt]), PUBLISHED_AXES)
    return np.asarray(nearest_labels(found.xs @ axes, found.ys, found.xt @ axes), dtype=np.int64)


def probe(found: Domains) -> Ints:
    """A linear probe of the source."""
    head = linear_probe.fit(found.xs, found.ys, CLASSES, LinearProbe(), rng=_rng()).head
    return _answers(head, found)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _answers(head: Head, found: Domains) -> Ints:
    return np.asarray(head(found.xt).argmax(axis=1), dtype=np.int64)


def _of(method: Any, options: Any) -> Answer:
    return lambda found: _answers(method.fit(found, options, _rng()).head, found)


def selective(found: Domains) -> Ints:
    """Selective pseudo-labels."""
    return _answers(selective_pseudo_labels.fit(found, SelectivePseudoLabels(), _rng()).head, found)


def selective_mean(found: Domains) -> Ints:
    """Selective pseudo-labels of fifteen settings, their probabilities' mean: none of them has to be chosen."""
    grid = [SelectivePseudoLabels(axes=axes, shrinkage=share) for axes in AXES for share in SHRINKAGES]
    heads = [selective_pseudo_labels.fit(found, options, _rng()).head for options in grid]
    return np.asarray(np.mean([softmax(head(found.xt)) for head in heads], axis=0).argmax(axis=1), dtype=np.int64)


METHODS: list[tuple[str, Answer, str]] = [
    ("1-NN (published 31.4)", nearest, ""),
    ("PCA, 1-NN (published 43.6)", pca, ""),
    ("source-only, linear probe", probe, ""),
    ("TCA, 1-NN (published 46.2)", _of(tca, Tca(classifier="nearest")), ">= 46"),
    ("TCA with a linear probe", _of(tca, Tca()), ""),
    ("subspace alignment, 1-NN", _of(subspace_alignment, SubspaceAlignment()), ""),
    ("CORAL with the published I (published 48.8)", _of(coral, Coral(regularisation=1)), ">= 46"),
    ("CORAL", _of(coral, Coral()), ""),
    ("linear OT", _of(linear_ot, LinearOt()), ""),
    ("Sinkhorn OT, 1-NN", _of(sinkhorn_ot, SinkhornOt(classifier="nearest")), ""),
    ("Sinkhorn OT", _of(sinkhorn_ot, SinkhornOt()), ""),
    ("JDA, 1-NN (published 46.3)", _of(jda, Jda(classifier="nearest")), ">= 46"),
    ("JDA with a linear probe", _of(jda, Jda()), ""),
    ("MEDA with 20 axes (published 52.7)", _of(meda, Meda(axes=20)), ""),
    ("MEDA", _of(meda, Meda()), ""),
    ("selective pseudo-labels", selective, ">= 50.5"),
    ("selective pseudo-labels, mean of 15 settings", selective_mean, ""),
]


def accuracies(domains: dict[str, tuple[Floats, Ints]], answer: Answer) -> dict[str, float]:
    """Percent right of each pair's target."""
    return {name: 100 * float((answer(found) == truth).mean()) for name, found, truth in pairs(domains)}


def measure(table: Table, data: Path, *, quick: bool = False) -> None:
    """Add the mean of the pairs for every method, and the best of these means."""
    domains = load(data)
    if quick:
        domains = {name: domains[name] for name in DOMAINS[2:]}
    means = []
    for name, answer, goal in METHODS:
        found = accuracies(domains, answer)
        means.append(float(np.mean(list(found.values()))))
        table.add(f"SURF, {name}", means[-1], "" if quick else goal, "%")
    table.add("SURF, best method (published best 52.7)", max(means), "" if quick else ">= 52.7", "%")


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    chosen = parser(__doc__ or "").parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("domain adaptation, SURF")
    measure(table, chosen.data, quick=chosen.quick)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
