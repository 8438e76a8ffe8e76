"""The guard: whether an adapted classifier may be served, as far as that can be known without labels of its domain.

An adapted classifier is refused unless all of these hold: there is a shift, and the method does not widen it; source
items are still answered well; no class is lost; it does not contradict the source-only classifier on most items; the
target is at least as well ordered under its answers as before (neighbours, class means); and each class lies, about the
domain's centre, where it lies in the source. The last one is what tells adapting from inventing: where the target lacks
classes, has nothing to do with the source, or is turned over, classes lie where others should. Limits were set on some
300 pairs of real domains, real and spoilt (`benchmarks.domain_guard`), none of which is needed to use them.

What no figure can show without labels stays `undetermined`: a target that is turned over in itself and looks the same
as one that is not. A few labels settle it.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import beta

from core.contract.verdicts import GuardCheck, GuardReport, Verdict
from worker.engine.adaptation.evidence import Evidence
from worker.engine.adaptation.measures import Measures, measure
from worker.engine.adaptation.validators import Ints, predicted

SIGNIFICANT = 0.05
WIDER = 0.05
"""By how much the distance of the domains (a share of their spread) may grow."""
SOURCE_LOSS = 0.12
"""Accuracy on the source that may be lost: a head for another domain pays a little at home. Harmful ones lose more."""
EFFECTIVE = 0.1
COLLAPSE = 0.6
"""Share of the evenness of the source-only answers that must be left."""
ALIKE, UNRELATED = 0.995, 0.25
RELATED, KEPT = 0.28, 0.8
MISPLACED, MARGIN = 0.1, -0.1
WORSE = 0.025
ORDERED = 0.4
UNEVEN = 0.7
SURE = 0.9
"""How probable audit labels must make it that the adapted classifier is the better, to overrule the other checks."""


@dataclass(frozen=True)
class Check:
    """One question and its answer; `refuses` is the verdict if it fails."""

    name: str
    value: float
    threshold: str
    passed: bool
    meaning: str
    refuses: Verdict
    clearance: float
    """How far it is from its limit: above 0 where it passed, about 1 where that is clear."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with an adapted classifier, and why."""

    verdict: Verdict
    confidence: float
    accept: bool
    reasons: list[str]
    checks: list[Check]
    audit_items: int = 0

    @property
    def sentence(self) -> str:
        """In plain words."""
        told = {
            "improved": "By all that can be known without labels, the adapted model is better on the new domain",
            "not_improved": "There was nothing to gain by adapting",
            "harmful": "Adapting did harm, by all that can be known without labels",
            "undetermined": "Without labels nobody can say whether adapting helped",
        }
        if self.audit_items:
            told = {key: text.replace("without labels", "from a few labels") for key, text in told.items()}
        return f"{told[self.verdict]} ({self.confidence:.0%} sure). {' '.join(self.reasons)}".strip()

    def report(self) -> GuardReport:
        """As it is stored and shown."""
        return GuardReport(
            verdict=self.verdict,
            confidence=round(self.confidence, 3),
            accepted=self.accept,
            reasons=self.reasons,
            checks=[
                GuardCheck(
                    name=check.name,
                    value=None if math.isnan(check.value) else round(check.value, 6),
                    threshold=check.threshold,
                    passed=check.passed,
                    meaning=check.meaning,
                )
                for check in self.checks
            ],
            audit_items=self.audit_items,
        )


def decide(evidence: Evidence, rng: np.random.Generator) -> Decision:
    """Judge an adapted classifier; labels of the target have a part in it only where they are audit labels."""
    checks = questions(measure(evidence, rng))
    return _with_audit(evidence, _unaided(checks))


def questions(found: Measures) -> list[Check]:
    """All checks, each with what was found."""
    before, after = found.before, found.after
    classes = len(after.kinship.margins)
    drop = before.source_accuracy - after.source_accuracy
    kept = after.kinship.mean / before.kinship.mean if before.kinship.mean > 1e-6 else 1.0
    better = after.neighbours - before.neighbours
    made = _Maker()
    made.ask(
        "shift_before",
        found.shift_before.p_value,
        "<=",
        SIGNIFICANT,
        "not_improved",
        "Is there a shift at all (p of a permutation test)?",
        unit=0.05,
    )
    made.ask(
        "differs",
        found.agreement,
        "<=",
        ALIKE,
        "not_improved",
        "Do the two classifiers differ (share of items answered alike)?",
        unit=0.05,
    )
    if found.shift_after is not None:
        made.ask(
            "shift_after",
            found.shift_after.effect - found.shift_before.effect,
            "<=",
            WIDER,
            "undetermined",
            "Are the domains no farther apart after adapting (change of the MMD's share)?",
            unit=0.1,
        )
    made.ask(
        "source_loss",
        drop,
        "<=",
        SOURCE_LOSS,
        "undetermined",
        "Are source items still answered well (accuracy lost on items not learnt from)?",
        unit=0.1,
    )
    enough = found.effective >= EFFECTIVE
    made.ask(
        "weighted_risk",
        after.risk - before.risk if enough else math.nan,
        "<=",
        SOURCE_LOSS,
        "undetermined",
        "Likewise, each source item weighed by how likely it is in the target (if enough of them count)?",
        unit=0.1,
    )
    made.ask(
        "collapse",
        after.evenness / max(before.evenness, 1e-6),
        ">=",
        COLLAPSE,
        "harmful",
        "Do the answers still spread over the classes, as before?",
        unit=0.2,
    )
    made.ask(
        "lost_classes", float(len(found.lost)), "<=", 0, "harmful", "Is no class lost that was found before?", unit=1
    )
    made.ask(
        "agreement",
        found.beyond_chance,
        ">=",
        UNRELATED,
        "undetermined",
        "Do the two classifiers agree beyond chance (kappa)?",
        unit=0.25,
    )
    made.ask(
        "kinship",
        after.kinship.mean,
        ">=",
        RELATED,
        "undetermined",
        "Do both domains arrange the classes alike (1 alike, 0 unrelated)?",
        unit=0.2,
    )
    made.ask(
        "kinship_kept",
        kept,
        ">=",
        KEPT,
        "harmful",
        "Is that arrangement kept, against the source-only answers?",
        unit=0.2,
    )
    if classes > 2:
        made.ask(
            "misplaced_classes",
            after.misplaced,
            "<=",
            MISPLACED,
            "undetermined",
            "Does each class lie where it lies in the source (share that lie nearer to another)?",
            unit=0.1,
        )
        made.ask(
            "worst_class",
            after.worst_margin,
            ">=",
            MARGIN,
            "undetermined",
            "How clearly, for the class that lies worst?",
            unit=0.1,
        )
    made.ask(
        "neighbours",
        better,
        ">=",
        -WORSE,
        "harmful",
        "Do neighbouring target items bear the same label at least as often as before?",
        unit=0.1,
    )
    made.ask(
        "class_means",
        after.nearest_mean - before.nearest_mean,
        ">=",
        -WORSE,
        "harmful",
        "Do target items lie nearest to their own class's mean at least as often as before?",
        unit=0.1,
    )
    made.ask(
        "order",
        after.neighbours / max(found.source_neighbours, 1e-6),
        ">=",
        ORDERED,
        "undetermined",
        "Are neighbours in the target as often of one class as in the source (ratio)?",
        unit=0.3,
    )
    if classes == 2:
        made.ask(
            "two_classes",
            before.evenness,
            ">=",
            UNEVEN,
            "undetermined",
            "Are both classes found in the target? With two, other shares and a shift look the same.",
            unit=0.2,
        )
    return made.checks


@dataclass
class _Maker:
    checks: list[Check] = field(default_factory=list)

    def ask(
        self, name: str, value: float, sign: str, limit: float, refuses: Verdict, meaning: str, *, unit: float
    ) -> None:
        """A figure that cannot be had passes: it says nothing."""
        clearance = (limit - value if sign == "<=" else value - limit) / unit
        unknown = math.isnan(value)
        self.checks.append(
            Check(
                name,
                value,
                f"{sign} {limit:g}",
                unknown or clearance >= 0,
                meaning,
                refuses,
                0.5 if unknown else clearance,
            )
        )


_WORST: list[Verdict] = ["not_improved", "undetermined", "harmful"]


def _unaided(checks: list[Check]) -> Decision:
    """By the checks alone. Nothing to gain comes first; what says nothing of the relation comes before harm."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        nearest = sorted(min(1.0, max(0.0, check.clearance)) for check in checks if check.refuses != "not_improved")[:3]
        sure = 0.75 + 0.2 * float(np.mean(nearest))
        return Decision("improved", sure, True, ["All checks passed."], checks)
    verdict = next(kind for kind in _WORST if any(check.refuses == kind for check in failed))
    told = [f"`{check.name}` is {check.value:.3g} and has to be {check.threshold}." for check in failed]
    depth = min(1.0, sum(min(1.0, -check.clearance) for check in failed) / 2)
    sure = 0.6 + 0.35 * depth
    hint = ["A few labels of the target (`target_labels: few`) would settle it."] if verdict == "undetermined" else []
    return Decision(verdict, sure, False, [*told, *hint], checks)


def _with_audit(evidence: Evidence, unaided: Decision) -> Decision:
    """Audit labels overrule the checks where they are clear; else they say how sure one may be.

    Of the audit items on which only one of the two classifiers is right, the share that the adapted one wins has a Beta
    posterior. Before any is seen, the checks count as three such items.
    """
    known = np.flatnonzero(evidence.audit >= 0)
    if len(known) == 0:
        return unaided
    won, lost = _discordant(evidence, known)
    prior = (2.5, 1.5) if unaided.accept else (1.5, 2.5)
    better = float(beta.sf(0.5, won + prior[0], lost + prior[1]))
    told = f"Of {len(known)} labelled target items, {won} are right only after adapting and {lost} only before."
    if unaided.accept:
        accept, verdict = better >= 1 - SURE, "improved" if better >= 0.5 else "undetermined"
        verdict = verdict if accept else "harmful"
    else:
        accept = better >= SURE
        verdict = "improved" if accept else ("harmful" if better <= 1 - SURE else unaided.verdict)
    sure = better if verdict == "improved" else (1 - better if verdict == "harmful" else unaided.confidence)
    return Decision(verdict, sure, accept, [told, *unaided.reasons], unaided.checks, len(known))


def _discordant(evidence: Evidence, known: Ints) -> tuple[int, int]:
    truth = evidence.audit[known]
    before = predicted(evidence.target_before[known]) == truth
    after = predicted(evidence.target_after[known]) == truth
    return int((after & ~before).sum()), int((before & ~after).sum())
