"""What the guard asks of an adapted classifier, and the limits.

The limits were set on some 350 classifiers on 90 pairs of real domains (photos, drawings of them, digits, reviews),
some spoilt on purpose; `benchmarks.domain_guard` shows what they do. Helpful and harmful ones lie well apart on most.
"""

import math
from dataclasses import dataclass
from typing import Literal

from core.contract.verdicts import Verdict
from worker.engine.adaptation.measures import Measures

_EFFECTIVE = 0.1  # share of the source items that importance weights must leave, for a risk to mean anything
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


RULES = (
    Rule("shift_before", "<=", 0.05, 0.05, "not_improved", "Is there a shift at all? p of a permutation test."),
    Rule("differs", "<=", 0.998, 0.05, "not_improved", "Do the classifiers differ? Share of items answered alike."),
    Rule(
        "shift_after", "<=", 0.05, 0.1, "undetermined", "Are the domains no farther apart after? Growth of their MMD."
    ),
    # A head for another domain pays a little at home, also where it helps: up to 9 points were seen.
    Rule(
        "source_loss", "<=", 0.12, 0.1, "undetermined", "Are source items still answered well? Accuracy lost on them."
    ),
    Rule(
        "weighted_risk",
        "<=",
        0.12,
        0.1,
        "undetermined",
        "Likewise, each source item weighed by how likely it is in the target, if enough of them count.",
    ),
    Rule("collapse", ">=", 0.6, 0.2, "harmful", "Do answers spread over the classes as before? Ratio of the evenness."),
    Rule("lost_classes", "<=", 0, 1, "harmful", "Is every class found that was found before? Number of those lost."),
    Rule("agreement", ">=", 0.25, 0.25, "undetermined", "Do the classifiers agree beyond chance? Kappa."),
    Rule("kinship", ">=", 0.28, 0.2, "undetermined", "Do both domains arrange the classes alike? 1 alike, 0 not."),
    Rule("kinship_kept", ">=", 0.8, 0.2, "harmful", "Is that as true as of the source-only answers? Ratio."),
    Rule(
        "misplaced_classes",
        "<=",
        0.1,
        0.1,
        "undetermined",
        "Does each class lie where the source has it? Share that lie nearer to where another one should be.",
    ),
    Rule("worst_class", ">=", -0.1, 0.1, "undetermined", "How clearly does the worst one lie there? Cosines' margin."),
    Rule("neighbours", ">=", -0.025, 0.1, "harmful", "Do neighbours bear one label as often as before? Gain."),
    Rule("class_means", ">=", -0.025, 0.1, "harmful", "Is one's own class mean as often the nearest? Gain."),
    Rule("order", ">=", 0.4, 0.3, "undetermined", "Are neighbours as often of one class as in the source? Ratio."),
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
    return [Check(rule, figures[rule.name]) for rule in RULES if rule.name in figures]


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
        "kinship_kept": after.kinship.mean / related if related > _TINY else 1.0,
        "neighbours": after.neighbours - before.neighbours,
        "class_means": after.nearest_mean - before.nearest_mean,
        "order": after.neighbours / max(found.source_neighbours, _TINY),
    }
    if found.shift_after is not None:
        figures["shift_after"] = found.shift_after.effect - found.shift_before.effect
    if found.classes > 2:
        figures |= {"misplaced_classes": after.misplaced, "worst_class": after.worst_margin}
    else:
        figures["two_classes"] = before.evenness
    return figures
