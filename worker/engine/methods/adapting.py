"""What methods share that adapt on features of the frozen base model: the arrays they see, and honest source answers.

A method is a function from `Domains` to `Adapted`. It is called twice where the source has validation items: without
them, for answers to items that were not learnt from (the temperature and the guard rest on these), and with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from worker.engine.data import Items, JobData
from worker.engine.heads import Head, Mixture
from worker.engine.task import Task, Trained

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_SHARPNESS = 2.0  # margin between the two likeliest classes of the median target item, in nats


@dataclass(frozen=True)
class Domains:
    """Labelled source items and target items as arrays."""

    xs: Floats
    """Source features (n, D)."""
    ys: Ints
    """Their classes (n,); every class has an item."""
    xt: Floats
    """Target features (m, E); E is D unless the two are of different kinds."""
    audit: Ints
    """What may be known of the target's classes (m,); -1 where nothing is."""
    classes: int
    source_names: list[str]
    target_names: list[str]


@dataclass(frozen=True)
class Adapted:
    """What a method made of them."""

    head: Head
    """For items of the target."""
    on_source: Head | None = None
    """For items of the source, where these take another way to the same classifier."""
    options: dict[str, object] = field(default_factory=dict)
    """What became of options that were left to the method, and what else it found, as JSON."""
    notes: list[str] = field(default_factory=list)

    @property
    def source_head(self) -> Head:
        """The head that source items go through."""
        return self.head if self.on_source is None else self.on_source


Fit = Callable[[Domains, np.random.Generator], Adapted]


def adapt(task: Task, fit: Fit) -> Trained:
    """Run a method on the frozen features of source and target."""
    merged, count = task.data.merged(), len(task.data.train)
    whole = domains(task, merged)
    known = np.full((len(whole.ys), whole.classes), np.nan, dtype=np.float32)
    if len(task.data.validation) and len(np.unique(whole.ys[:count])) == whole.classes:
        task.wishes.check()
        part = replace(whole, xs=whole.xs[:count], ys=whole.ys[:count], source_names=whole.source_names[:count])
        known[count:] = fit(part, task.rng()).source_head(whole.xs[count:])
        task.steps.progress("train", 0.5)
    task.wishes.check()
    found = fit(whole, task.rng())
    return Trained(
        merged, found.head, out_of_fold=known, options=found.options, notes=found.notes, on_source=found.on_source
    )


def domains(task: Task, data: JobData) -> Domains:
    """The arrays of a job's training items and of its target; `JobError` `features_not_finite`."""
    target = target_items(task)
    xs, xt = task.features(data.train), task.features(target)
    for x in (xs, xt):
        if not np.isfinite(x).all():
            raise JobError(
                "Some features of the base model are not finite.",
                code="features_not_finite",
                hint="Choose another base model; the weights of this one may be damaged.",
            )
    return Domains(xs, data.train.labels, xt, target.labels, data.outputs, names(data.train), names(target))


def target_items(task: Task) -> Items:
    """All items of the target; `JobError` `target_required` where the job has none."""
    if task.data.target is None:
        raise JobError(
            f"`{task.options.name}` adapts to data of a new domain, and the job names none.",
            code="target_required",
            param="target",
            hint="Upload items of the new domain, with or without labels, and name the data set as `target`.",
        )
    return task.data.target


def names(items: Items) -> list[str]:
    """Their paths in their upload."""
    return [items.name(position) for position in range(len(items))]


def mixed(found: Domains, parts: Sequence[Adapted], weights: Sequence[float]) -> Adapted:
    """The weighted mean of what several make probable, all equally sure of the target's items."""
    shares = tuple(float(weight) / sum(weights) for weight in weights)
    temperatures = tuple(_temperature(part.head(found.xt)) for part in parts)
    heads = [
        Mixture(tuple(heads), shares, temperatures).as_head()
        for heads in ([part.head for part in parts], [part.source_head for part in parts])
    ]
    return Adapted(heads[0], heads[1])


def _temperature(logits: Floats) -> float:
    ranked = np.sort(logits.astype(np.float64), axis=1)
    return max(float(np.median(ranked[:, -1] - ranked[:, -2])) / _SHARPNESS, 1e-6)
