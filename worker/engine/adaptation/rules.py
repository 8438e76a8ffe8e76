"""What the guard asks of an adapted classifier, and the limits.

The limits were set on some 350 classifiers on 90 pairs of real domains (photos, drawings of them, digits, reviews),
some spoilt on purpose; `benchmarks.domain_guard` shows what they do. Helpful and harmful ones lie well apart on most.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from core.contract.verdicts import Verdict
from worker.engine.adaptation.measures import Measures

_EFFECTIVE = 0.1  # share of the source items that importance weights must leave, for a risk to mean anything
_MUCH = 0.25  # gain in neighbours of one label that invented classes were not seen to bring
_LITTLE = 0.1  # gain in neighbours that a true adaptation of uneven answers exceeds
_TINY = 1e-6


@dataclass(frozen=True)
class Rule:
    """One question: a figure and its limit."""

    name: str
    sign: Literal["<=", ">="]
    limit: float
    unit: float
    """Distance from the limit at which the answer is clear."""
    refuses: Verdict
    """The verdict if it fails."""
    meaning: str
    of_source: bool = False
    """Whether it asks something of source items; without any it cannot be asked."""


_of_source = partial(Rule, of_source=True)

RULES = (
    _of_source("shift_before", "<=", 0.05, 0.05, "not_improved", "Is there a shift at all? p of a permutation test."),
    Rule("differs", "<=", 0.998, 0.05, "not_improved", "Do the classifiers differ? Share of items answered alike."),
    _of_source(
        "shift_after", "<=", 0.05, 0.1, "undetermined", "Are the domains no farther apart after? Growth of their MMD."
    ),
    # A head for another domain pays at home, also where it helps: up to 20 points were seen on the largest shifts.
    _of_source(
        "source_loss", "<=", 0.22, 0.1, "undetermined", "Are source items still answered well? Accuracy lost on them."
    ),
    _of_source(
        "weighted_risk",
        "<=",
        0.22,
        0.1,
        "undetermined",
        "Likewise, each source item weighed by how likely it is in the target, if enough of them count.",
    ),
    Rule("collapse", ">=", 0.6, 0.2, "harmful", "Do answers spread over the classes as before? Ratio of the evenness."),
    Rule("lost_classes", "<=", 0, 1, "harmful", "Is every class found that was found before? Number of those lost."),
    Rule("agreement", ">=", 0.15, 0.25, "undetermined", "Do the classifiers agree beyond chance? Kappa."),
    # All that is left, without source items, to tell adapting from inventing: of 38 classifiers that were worse or
    # worthless 37 are refused, of 22 that were better one (`benchmarks.domain_alone`).
    Rule(
        "agreement_alone",
        ">=",
        0.7,
        0.25,
        "undetermined",
        "Likewise, on most items, for no source item can tell whether what changed was adapted or invented.",
    ),
    _of_source(
        "kinship", ">=", 0.25, 0.2, "undetermined", "Do both domains arrange the classes alike? 1 alike, 0 not."
    ),
    # The source-only answers are chosen to look like the source: on large shifts theirs is better than the truth's.
    _of_source("kinship_kept", ">=", 0.65, 0.2, "harmful", "Is that as true as of the source-only answers? Ratio."),
    _of_source(
        "kinship_of_two", ">=", 0.8, 0.2, "harmful", "Likewise, of two classes, which no other one could betray."
    ),
    _of_source(
        "misplaced_classes",
        "<=",
        0.1,
        0.1,
        "undetermined",
        "Does each class lie where the source has it? Share that lie nearer to where another one should be.",
    ),
    _of_source(
        "worst_class", ">=", -0.1, 0.1, "undetermined", "How clearly does the worst one lie there? Cosines' margin."
    ),
    # A target that falls into order under the new answers is forgiven some: on large shifts not all classes are found.
    _of_source("misplaced_of_ordered", "<=", 0.3, 0.1, "undetermined", "Likewise, where neighbours agree much better."),
    _of_source("worst_of_ordered", ">=", -0.35, 0.2, "undetermined", "Likewise, where neighbours agree much better."),
    Rule("neighbours", ">=", -0.025, 0.1, "harmful", "Do neighbours bear one label as often as before? Gain."),
    Rule("class_means", ">=", -0.025, 0.1, "harmful", "Is one's own class mean as often the nearest? Gain."),
    _of_source(
        "order", ">=", 0.4, 0.3, "undetermined", "Are neighbours as often of one class as in the source? Ratio."
    ),
    Rule(
        "class_shares",
        ">=",
        0.8,
        0.2,
        "undetermined",
        "Where answers get more even and order gains little: did the source-only answers spread as the source's labels "
        "do? If not, the classes may have other shares, and evening them out does harm. Ratio of the evenness.",
    ),
    Rule(
        "two_classes",
        ">=",
        0.7,
        0.2,
        "undetermined",
        "Were both classes found in the target? Of two, uneven shares and a shift of the inputs look the same.",
    ),
)


@dataclass(frozen=True)
class Check:
    """A rule and the figure that it met."""

    rule: Rule
    value: float

    @property
    def clearance(self) -> float:
        """How far on the right side of its limit, in units; a figure that cannot be had says nothing either way."""
        if math.isnan(self.value):
            return 0.5
        rule = self.rule
        return (rule.limit - self.value if rule.sign == "<=" else self.value - rule.limit) / rule.unit

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.clearance >= 0

    @property
    def threshold(self) -> str:
        """In words."""
        return f"{self.rule.sign} {self.rule.limit:g}"


def checks(found: Measures) -> list[Check]:
    """All rules that can be asked of what was measured."""
    figures = values(found)
    asked = [rule for rule in RULES if rule.name in figures and not (found.alone and rule.of_source)]
    return [Check(rule, figures[rule.name]) for rule in asked]


def values(found: Measures) -> dict[str, float]:
    """The figures by rule; one that has no meaning here is left out, one that cannot be known is NaN."""
    before, after = found.before, found.after
    counts = found.effective >= _EFFECTIVE
    related = before.kinship.mean
    figures = {
        "shift_before": found.shift_before.p_value,
        "differs": found.agreement,
        "source_loss": before.source_accuracy - after.source_accuracy,
        "weighted_risk": after.risk - before.risk if counts else math.nan,
        "collapse": after.evenness / max(before.evenness, _TINY),
        "lost_classes": float(len(found.lost)),
        "agreement": found.beyond_chance,
        "kinship": after.kinship.mean,
        "neighbours": after.neighbours - before.neighbours,
        "class_means": after.nearest_mean - before.nearest_mean,
        "order": after.neighbours / max(found.source_neighbours, _TINY),
    }
    if found.alone:
        figures["agreement_alone"] = found.beyond_chance
    if found.shift_after is not None:
        figures["shift_after"] = found.shift_after.effect - found.shift_before.effect
    kept = after.kinship.mean / related if related > _TINY else 1.0
    if found.classes > 2:
        gain = after.neighbours - before.neighbours
        ordered = gain >= _MUCH
        names = ("misplaced_of_ordered", "worst_of_ordered") if ordered else ("misplaced_classes", "worst_class")
        figures |= {"kinship_kept": kept, names[0]: after.misplaced, names[1]: after.worst_margin}
        if gain < _LITTLE and after.evenness > before.evenness + 0.01:
            figures["class_shares"] = before.evenness / max(found.source_evenness, _TINY)
    else:
        figures |= {"kinship_of_two": kept, "two_classes": before.evenness}
    return figures
