"""What a reader of the report should know, in plain sentences."""

import numpy as np

from core.contract.reports import Metric
from worker.engine.data import JobData, class_counts
from worker.engine.problems import one_hot

_UNEVEN = 3.0  # largest class by smallest from which on it is said
_WIDE = 0.1  # width of the interval of the accuracy
_THIN = 10
OF_SOURCE = (
    "No item of the new domain has a label that may be measured with, so the figures are those of held-out items of "
    "the source. How good the model is on the new domain they do not say; the guard's checks are all that is known."
)


OF_NOTHING = (
    "No item of the new domain has a label that may be measured with, and there is no source: how good the model is "
    "nobody knows; the guard's checks are all that is known. Some labelled items as the `evaluation` would tell."
)


def about_data(data: JobData) -> list[str]:
    """Figures of another domain, uneven or thin classes, classes without a figure, items that stand on both sides."""
    notes = []
    if data.evaluated_on == "nothing":
        return [OF_NOTHING]
    if data.target is not None and data.evaluated_on == "test_split":
        notes.append(OF_SOURCE)
    if data.problem != "regression":
        notes += [*(_of_training(data) if data.hypothesis is None else []), *_without_figure(data)]
    shared = len(data.held_out.digests() & (data.train.digests() | data.validation.digests()))
    if shared:
        notes.append(
            f"{shared} held-out {'file stands' if shared == 1 else 'files stand'} among the training or validation "
            "items too, byte for byte; the figures flatter the model."
        )
    return notes


def _of_training(data: JobData) -> list[str]:
    """Classes that are uneven or thin."""
    notes = []
    counts = class_counts(data)
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _UNEVEN * counts[least]:
        notes.append(
            f"The classes are uneven: {data.classes[most]!r} has {counts[most]} training items, "
            f"{data.classes[least]!r} has {counts[least]}. Look at each class's figures, not at the accuracy alone."
        )
    if counts[least] < _THIN:
        notes.append(f"{data.classes[least]!r} has only {counts[least]} training items; more would help most there.")
    return notes


def _without_figure(data: JobData) -> list[str]:
    """Classes that nothing is known about."""
    held_out = one_hot(data.problem, data.held_out.labels, len(data.classes))
    absent = np.flatnonzero(held_out.sum(axis=0) == 0)
    if len(absent):
        names = ", ".join(repr(data.classes[number]) for number in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        return [f"No held-out item is of class {names}{more}: nothing is known about {_them(len(absent))}."]
    return []


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def about_accuracy(metrics: list[Metric]) -> list[str]:
    """A wide interval of the first figure."""
    accuracy = next(iter(metrics), None)
    if (
        accuracy is None
        or accuracy.name != "accuracy"
        or accuracy.low is None
        or accuracy.high is None
        or accuracy.high - accuracy.low < _WIDE
    ):
        return []
    return [
        f"Only {accuracy.n} items are held out: on new items like these the accuracy may lie anywhere between "
        f"{accuracy.low:.1%} and {accuracy.high:.1%} (95 % interval)."
    ]
