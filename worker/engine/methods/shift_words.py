"""Of which kind a shift is, what fits it, and both in plain words."""

from typing import Protocol

from core.contract.methods import METHODS
from core.contract.shifts import LabelShift, Shift, ShiftKind, ShiftSize
from worker.engine.methods.maths.shift import Tested, Told

COVERED = 0.1
"""Effective share of the source items above which the source covers the target."""
ALIKE = 0.5
"""Share of the classes' moves above which they count as one."""
EXPLAINED = 0.9
"""Share of the discrepancy that new class shares must explain for it to be a matter of shares alone."""
HALF = 0.5
"""The same where what is left may be chance."""
_PROVED = ("domain_weights", "kliep", "selective_pseudo_labels", "prototype_self_training", "linear_ot", "coral")
"""Where several fit, the ones to try first: the most right on many pairs of domains, and fast."""
_SIZES: tuple[tuple[float, ShiftSize], ...] = ((0.2, "negligible"), (0.6, "small"), (1.2, "medium"))


class _Classed(Protocol):
    @property
    def labels(self) -> LabelShift: ...
    @property
    def remains(self) -> float: ...
    @property
    def common(self) -> float: ...


def kind(mmd: Tested, told: Told, classed: _Classed | None, level: float) -> ShiftKind:
    """By the two tests (each at half the level), class shares, overlap and the classes' moves, in this order."""
    if min(mmd.p_value, told.tested.p_value) > level / 2:
        return "none"
    if classed and classed.labels.p_value <= level and _explained(mmd, classed):
        return "label"
    if told.overlap > COVERED:
        return "covariate"
    return "general" if classed is None or classed.common >= ALIKE else "conditional"


def _explained(mmd: Tested, classed: _Classed) -> bool:
    """Most of the discrepancy goes with the shares, or so much that what is left may be chance."""
    share = classed.labels.explained
    return share is not None and (share >= EXPLAINED or (share >= HALF and classed.remains <= mmd.null))


def size(told: Told, classed: _Classed | None, found: ShiftKind) -> ShiftSize:
    """By the proxy A-distance; of a label shift by that of the class shares where a classifier of items sees less."""
    distance = told.tested.effect
    if found == "label" and classed:
        distance = max(distance, 2 * classed.labels.distance)
    return next((name for most, name in _SIZES if distance < most), "large")


def methods(found: ShiftKind) -> list[str]:
    """Methods made for the kind: those on frozen features before networks, what has proved itself first."""
    fitting = [
        (options.trains_network, _PROVED.index(name) if name in _PROVED else len(_PROVED), len(options.shifts), name)
        for name, options in METHODS.items()
        if options.adapts and found in options.shifts and not options.heterogeneous
    ]
    fitting.sort(key=lambda one: one[:3])
    return [name for *_, name in fitting]


def sentence(found: Shift) -> str:
    """What a reader should take from it."""
    parts = [_far(found), *([] if found.kind == "none" else [_kind(found), _advice(found)])]
    if found.after is not None:
        parts.append(_change(found))
    return " ".join(part for part in parts if part)


def _far(found: Shift) -> str:
    told = next(test for test in found.tests if test.name == "classifier")
    share = f"{_percent(told.statistic)} of the items (50 % is chance)"
    least = 1 / (1 + found.permutations)
    p_value = min(test.p_value for test in found.tests)
    chance = f"p {'≤' if p_value <= least else '='} {p_value:.2g}"
    if found.kind == "none":
        return (
            f"Source and target cannot be told apart: a linear classifier is right about the domain of {share}, and "
            f"neither test is significant ({chance}). Nothing needs adapting: train on the source."
        )
    said = f"The shift is {found.size}: a linear classifier is right about the domain of {share}, {chance}."
    if found.size != "negligible":
        return said
    return f"{said} With enough items every shift is significant: adapting to this one will hardly change anything."


def _kind(found: Shift) -> str:
    moved = ""
    if found.labels is not None and found.labels.p_value <= found.level:
        moved = " Class shares seem to have moved, too."
    cover = f"weighted to look like it, {_percent(found.overlap)} of the source items count"
    if found.kind == "label":
        return _shares(found)
    if found.kind == "covariate":
        return f"It is a covariate shift: inputs have moved, but the source covers the target ({cover}).{moved}"
    said = f"The target lies beyond the source ({cover}).{_distance(found)}"
    if found.common is None:
        return f"{said} One map may bring them together."
    alike = f"{_percent(found.common, 0)} of the classes' moves is one move of them all"
    if found.kind == "general":
        return f"{said} {alike}: one map may bring the domains together.{moved}"
    return f"{said} Only {alike}: align the classes rather than the domains as a whole.{moved}"


def _shares(found: Shift) -> str:
    assert found.labels is not None
    return (
        f"It is a label shift: {_percent(found.labels.distance, 0)} of the items would have to change class for the "
        f"class shares to be alike, {_percent(found.labels.explained or 0, 0)} of the discrepancy goes with them, and "
        "the classes themselves have hardly moved."
    )


def _distance(found: Shift) -> str:
    """How far the classes have moved on average."""
    moved = [(one.target_items, one.distance) for one in found.classes if one.distance is not None]
    items = sum(count for count, _ in moved)
    if not items:
        return ""
    mean = sum(count * distance for count, distance in moved) / items
    return f" A class has moved by {mean:.2f} of its items' distance from their mean, on average."


def _advice(found: Shift) -> str:
    if not found.methods:
        return ""
    first = ", ".join(found.methods[:4])
    warning = " Maps of one domain onto the other would do harm." if found.kind == "label" else ""
    return f"Made for it: {first}.{warning}"


def _change(found: Shift) -> str:
    """How well the domains are told apart, before and after."""
    assert found.after is not None
    before, after = (
        next(test.statistic for test in tests if test.name == "classifier")
        for tests in (found.tests, found.after.tests)
    )
    if after <= 0.5 < before:
        return "After adaptation the classifier is no better than chance."
    word = "falls" if after < before - 0.005 else "rises" if after > before + 0.005 else "stays"
    how = f"at {_percent(after)}" if word == "stays" else f"to {_percent(after)}"
    return f"After adaptation the classifier's share {word} {how}."


def _percent(share: float, digits: int = 1) -> str:
    """What is not quite nothing or all is not told as such."""
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"less than {least:g} %"
    shown = f"{100 * share:.{digits}f}"
    return f"more than {100 - least:g} %" if share < 1 and float(shown) == 100 else f"{shown} %"
