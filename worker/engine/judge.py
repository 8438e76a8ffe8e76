"""The verdict on a method, by stated rules, from what it and its baselines answer on the same items.

The baseline it is held against is the one that is best on items of the *choosing* side (validation, or out of fold):
the best of several on the held-out items themselves would be the luckiest, too. Then, on held-out items:

- `harmful`: the interval of the difference lies below 0. Or another baseline is better beyond any doubt (p < 0.01,
  for all baselines together), and is then the one it is held against: where held-out items are of another kind than
  those to choose by, the latter name the wrong one.
- `not_improved`: no arm beats the constant answer; or the interval ends at the margin of use or below it.
- `improved`: the interval lies above 0, the difference is of use (at least the margin), and the method beats the
  constant answer, too.
- `undetermined`: anything else; the sentence says how many held-out items would tell (80 % power).

Without a true difference `improved` and `harmful` come up in at most 5 % of all jobs, both together; `harmful` for the
sake of another baseline in at most half a per cent more.
"""

from dataclasses import dataclass

import numpy as np

from core.contract.datasets import Problem
from core.contract.verdicts import ClassChange, Difference, Forgetting, Judgement, Verdict
from worker.engine import paired, verdict_words
from worker.engine.paired import Answers
from worker.engine.problems import Targets, one_hot, score_name
from worker.engine.verdict_words import Said

LARGEST_MARGIN, SMALLEST_MARGIN = 0.02, 0.01
_DOUBT = 0.01
_CLASS_ITEMS, _CLASS_DROP, _CLASS_LOST = 5, 0.1, 2


@dataclass(frozen=True)
class Contender:
    """An arm as the judge sees it."""

    name: str
    held_out: Answers
    choosing: Answers
    """On validation items, or out of fold; the same items for all arms. None of them where there are none."""
    constant: bool = False
    """The majority class or the mean: what knows nothing of the inputs."""


@dataclass(frozen=True)
class Ruling:
    """A judgement with the differences it was found by, by name of the baseline."""

    judgement: Judgement
    differences: dict[str, Difference]


def margin(items: int) -> float:
    """What two held-out items make, but at least 1 and at most 2 points: less is of no use to anybody."""
    return min(LARGEST_MARGIN, max(SMALLEST_MARGIN, 2 / max(items, 1)))


def best(contenders: list[Contender]) -> Contender:
    """The best on the choosing items; the earlier of equals."""
    return max(contenders, key=lambda arm: arm.choosing.figure if len(arm.choosing) else -np.inf)


def judge(
    method: Contender,
    baselines: list[Contender],
    problem: Problem,
    targets: Targets,
    classes: list[str],
    *,
    rng: np.random.Generator,
    of_use: float | None = None,
    forgetting: Forgetting | None = None,
) -> Ruling:
    """Judge a method against at least one baseline.

    `targets` are those of the held-out items (`worker.engine.problems`), `of_use` the margin where it is not to follow
    from their number. `served` names the method: who picks another arm says so.
    """
    items = len(method.held_out)
    of_use = margin(items) if of_use is None else of_use
    differences = {arm.name: paired.compare(method.held_out, arm.held_out, rng) for arm in baselines}
    rival = _far_better(baselines, differences) or best(baselines)
    difference = differences[rival.name]
    chance = next((arm for arm in baselines if arm.constant), None)
    hopeless = chance is not None and not any(_beats(arm, chance, len(baselines), rng) for arm in [method, *baselines])
    above = chance is None or differences[chance.name].low > 0
    verdict = _rule(difference, of_use, hopeless=hopeless, above=above)
    needed = paired.items_needed(method.held_out, rival.held_out, max(abs(difference.effect), of_use))
    said = Said(
        problem, method.name, rival.name, method.held_out.figure, rival.held_out.figure, items, of_use, needed, hopeless
    )
    judgement = Judgement(
        verdict=verdict,
        sentence=verdict_words.sentence(verdict, difference, said),
        metric=score_name(problem),
        baseline=rival.name,
        difference=difference,
        items=items,
        margin=of_use,
        lost_classes=[] if problem == "regression" else lost(method, rival, problem, targets, classes),
        forgetting=forgetting,
        served=method.name,
    )
    return Ruling(judgement, differences)


def _far_better(baselines: list[Contender], differences: dict[str, Difference]) -> Contender | None:
    """The baseline that is most surely better than the method on the held-out items, if one is beyond any doubt."""
    doubt = {arm.name: differences[arm.name].p_value or 0.0 for arm in baselines if differences[arm.name].effect < 0}
    surest = min(doubt, key=lambda name: (doubt[name], differences[name].effect), default="")
    if not surest or doubt[surest] * len(baselines) >= _DOUBT or differences[surest].high >= 0:
        return None
    return next(arm for arm in baselines if arm.name == surest)


def _rule(difference: Difference, of_use: float, *, hopeless: bool, above: bool) -> Verdict:
    if difference.high < 0:
        return "harmful"
    if hopeless or difference.high <= of_use:
        return "not_improved"
    if difference.low > 0 and difference.effect >= of_use and above:
        return "improved"
    return "undetermined"


def _beats(arm: Contender, chance: Contender, tries: int, rng: np.random.Generator) -> bool:
    """Whether an arm knows anything: on the choosing or the held-out items, allowing for so many arms that try."""
    if arm.constant:
        return False
    sides = ((arm.choosing, chance.choosing), (arm.held_out, chance.held_out))
    found = [paired.compare(ours, theirs, rng) for ours, theirs in sides if len(ours)]
    allowed = paired.LEVEL / (tries * max(len(found), 1))
    return any(one.effect > 0 and (one.p_value or 0.0) < allowed for one in found)


def lost(
    method: Contender, rival: Contender, problem: Problem, targets: Targets, classes: list[str]
) -> list[ClassChange]:
    """Classes that are worse than with the baseline, the worst first.

    Of at least five held-out items, two or more must be lost on balance, and the loss must be significant (McNemar) or
    above ten points. Multi-label: right are those of its items that were given the class, whatever else they were.
    """
    members = one_hot(problem, targets, len(classes)) > 0.5
    found = []
    for number, name in enumerate(classes):
        kept = members[:, number]
        support = int(kept.sum())
        if support < _CLASS_ITEMS:
            continue
        ours, theirs = method.held_out.of_class(number, kept), rival.held_out.of_class(number, kept)
        better, worse = paired.discordant(ours, theirs)
        significant = paired.mcnemar(better, worse) < paired.LEVEL or worse - better > _CLASS_DROP * support
        if worse - better >= _CLASS_LOST and significant:
            found.append(ClassChange(name=name, support=support, baseline=theirs.figure, method=ours.figure))
    return sorted(found, key=lambda change: change.method - change.baseline)
