"""Which classes are learnt from, which choose, and which are measured on: frozen, by a hash of their names.

It depends on the names alone, not on a job's seed: a model that was meta-trained on a data set has never seen the
classes that a later job measures on, whatever its seed.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from core.contract.errors import JobError
from core.contract.methods.episodic import Episodic
from worker.engine.datasets import listed
from worker.engine.few_shot.episodes import turns_of

TEST, VALIDATION = 0.25, 0.1  # shares of the classes
_LEAST_GROUPS = 3
_ROOM = 1.25  # times the share that whole groups may take
_SALT = "classes:1:"  # changes when the division is to be another


@dataclass(frozen=True)
class ClassSplit:
    """Numbers of classes."""

    train: list[int]
    validation: list[int]
    test: list[int]
    grouped: bool = False
    """Whether whole groups are held out."""


def divide(names: list[str], options: Episodic, *, elsewhere: bool, trains: bool) -> ClassSplit:
    """Divide a source's classes.

    With `elsewhere` other classes are measured on, and none of these; unless something `trains`, all others are left
    over. Raises `JobError` `unknown_class`, `invalid_options` or `too_few_classes`.
    """
    named = _named(names, options, elsewhere=elsewhere)
    groups, grouped = _groups(names)
    test = [] if elsewhere else named or _taken(groups, share=TEST, least=_least(options), of=len(names))
    rest = [number for number in range(len(names)) if number not in set(test)]
    if not elsewhere and not trains:
        return ClassSplit(rest, [], test, grouped and not named)
    left = _without(groups, test)
    validation = _taken(left, share=VALIDATION, least=2, of=len(names)) if len(rest) >= 6 else []
    train = [number for number in rest if number not in set(validation)]
    return ClassSplit(train, validation, test, grouped and not named)


def _least(options: Episodic) -> int:
    """Classes that the smallest episode needs; each turn of one is another."""
    return -(-min(options.ways) // turns_of(options))


def _named(names: list[str], options: Episodic, *, elsewhere: bool) -> list[int]:
    """The test classes that the job names."""
    if options.test_classes == "auto":
        return []
    if elsewhere:
        raise JobError(
            "Classes are named to be measured on, and there is an evaluation data set, which is measured on.",
            code="invalid_options",
            param="method.test_classes",
            hint="Leave out `test_classes` or `evaluation`.",
        )
    unknown = sorted(set(options.test_classes) - set(names))
    if unknown:
        raise JobError(
            f"The source has no {listed(unknown)}.",
            code="unknown_class",
            param="method.test_classes",
            hint=f"Its classes are {listed(names)}.",
        )
    return sorted({names.index(name) for name in options.test_classes})


def _groups(names: list[str]) -> tuple[list[list[int]], bool]:
    """Classes in the order of their hashes; together where paths name enough groups."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        found[name.rsplit("/", 1)[0] if "/" in name else name].append(number)
    grouped = _LEAST_GROUPS <= len(found) < len(names)
    if not grouped:
        return [[number] for number in sorted(range(len(names)), key=lambda one: _place(names[one]))], False
    return [found[name] for name in sorted(found, key=_place)], True


def _place(name: str) -> str:
    return hashlib.sha256((_SALT + name).encode()).hexdigest()


def _taken(groups: list[list[int]], *, share: float, least: int, of: int) -> list[int]:
    """Whole groups, near that share of all and at least so many where that can be; but never all.

    The first groups that fit; where these are too few, the smallest of the others beside them.
    """
    wanted = max(least, round(share * of))
    found: list[int] = []
    left = list(groups)
    for group in groups:
        if len(left) > 1 and len(found) + len(group) <= max(_ROOM * wanted, least) and len(found) < wanted:
            found += group
            left.remove(group)
    for group in sorted(left, key=len)[:-1]:
        if len(found) >= least:
            break
        found += group
    return sorted(found)


def _without(groups: list[list[int]], taken: list[int]) -> list[list[int]]:
    left = [[number for number in group if number not in set(taken)] for group in groups]
    return [group for group in left if group]
