"""Exact copies: those that would leak between splits or contradict each other are left out, the others are said."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from core.contract.datasets import Split
from core.modality.faults import FaultBook
from core.modality.splits import keeps_given

_HELD_OUT_FIRST: tuple[Split, ...] = ("test", "validation", "train")
COARSE = 0.1
"""Share of equal rows above which a table's equal rows are no copies, but what few and coarse columns look like."""


def without_copies(
    book: FaultBook,
    keys: Sequence[Hashable],
    answers: Sequence[Hashable],
    given: Sequence[Split | None],
    name: Callable[[int], str],
    *,
    values: bool = False,
) -> list[int]:
    """Indices of the items that stay, in order.

    `keys`: equal ones are copies; `answers`: what the label says, None where there is none; `given`: the split each
    came with. Different answers of copies contradict each other, unless they are `values` of a regression.
    """
    if any(answer is not None for answer in answers):
        # Nothing is measured on items without a label: they must not take a labelled copy out of the training split.
        given = [split and ("train" if answer is None else split) for answer, split in zip(answers, given, strict=True)]
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    keep_splits = keeps_given(set(given))
    dropped: set[int] = set()
    for group in groups.values():
        if len(group) > 1:
            if len({answers[index] for index in group} - {None}) > 1:
                shown = " = ".join(name(index) for index in group[:3])
                book.add("differing_values" if values else "conflicting_labels", shown)
                if not values:
                    dropped |= set(group)
                    continue
            dropped |= _leaking(book, group, given if keep_splits else None, name)
    return [index for index in range(len(keys)) if index not in dropped]


def is_coarse(keys: Sequence[Hashable]) -> bool:
    """Whether so many rows are equal that being equal says nothing."""
    return len(keys) - len(set(keys)) > COARSE * len(keys)


def _leaking(
    book: FaultBook, group: list[int], given: Sequence[Split | None] | None, name: Callable[[int], str]
) -> set[int]:
    """Which of a group of copies leak between splits; `given` is None where splits are made here."""
    splits = set() if given is None else {given[index] for index in group}
    held_out = next((split for split in _HELD_OUT_FIRST if split in splits), None)
    kept = [index for index in group if given is None or given[index] == held_out]
    leaking = set(group) - set(kept)
    for copy in sorted(leaking):
        book.add("duplicate_across_splits", f"{name(copy)} = {name(kept[0])}")
    for copy in kept[1:]:
        book.add("duplicate_in_split", f"{name(copy)} = {name(kept[0])}")
    return leaking
