"""The guard: whether an adapted classifier may be served, as far as that can be known without labels of its domain.

An adapted classifier is refused unless all of these hold: there is a shift, and the method does not widen it; source
items are still answered well; no class is lost; it does not contradict the source-only classifier on most items; the
target is at least as well ordered under its answers as before (neighbours, class means); and each class lies, about the
domain's centre, where it lies in the source. The last one is what tells adapting from inventing: where the target lacks
classes, has nothing to do with the source, or is turned over, classes lie where others should. The questions and their
limits stand in `worker.engine.adaptation.rules`.

Without source items, where the classifier was there already, what would be asked of them is left out; the adapted
classifier then has to agree with that one on most items.

What no figure can show without labels stays `undetermined`: a target that is turned over in itself and looks the same
as one that is not. A few labels settle it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from core.contract.verdicts import GuardCheck, GuardReport, Verdict
from worker.engine.adaptation import rules
from worker.engine.adaptation.evidence import Evidence
from worker.engine.adaptation.measures import measure
from worker.engine.adaptation.rules import Check
from worker.engine.adaptation.validators import Ints, predicted

SURE = 0.9
"""How probable audit labels must make it that the adapted classifier is the better, to overrule the checks."""
_ALONE = 0.9
"""How much of its confidence is left where a classifier is accepted without source items: four in five of them help."""


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
                    name=check.rule.name,
                    value=None if math.isnan(check.value) else round(check.value, 6),
                    threshold=check.threshold,
                    passed=check.passed,
                    meaning=check.rule.meaning,
                )
                for check in self.checks
            ],
            audit_items=self.audit_items,
        )


def decide(evidence: Evidence, rng: np.random.Generator) -> Decision:
    """Judge an adapted classifier; labels of the target have a part in it only where they are audit labels."""
    decision = unaided(rules.checks(measure(evidence, rng)))
    return _with_audit(evidence, _without_source(decision) if evidence.alone else decision)


_WORST: list[Verdict] = ["not_improved", "undetermined", "harmful"]


def unaided(checks: list[Check]) -> Decision:
    """By the checks alone. Nothing to gain comes first; what says nothing of the relation comes before harm."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        nearest = sorted(
            min(1.0, max(0.0, check.clearance)) for check in checks if check.rule.refuses != "not_improved"
        )[:3]
        sure = 0.75 + 0.2 * float(np.mean(nearest))
        return Decision("improved", sure, True, ["All checks passed."], checks)
    verdict = next(kind for kind in _WORST if any(check.rule.refuses == kind for check in failed))
    told = [f"`{check.rule.name}` is {check.value:.3g} and has to be {check.threshold}." for check in failed]
    depth = min(1.0, sum(min(1.0, -check.clearance) for check in failed) / 2)
    sure = 0.6 + 0.35 * depth
    hint = ["A few labels of the target (`target_labels: few`) would settle it."] if verdict == "undetermined" else []
    return Decision(verdict, sure, False, [*told, *hint], checks)


def _without_source(found: Decision) -> Decision:
    """Without source items half of the questions cannot be asked: also the one that tells adapting from inventing."""
    told = "There are no source items, so nothing could be asked of them: less is known than with a source."
    sure = _ALONE * found.confidence if found.accept else found.confidence
    return replace(found, confidence=sure, reasons=[*found.reasons, told])


def _with_audit(evidence: Evidence, alone: Decision) -> Decision:
    """Audit labels overrule the checks where they are clear; else they say how sure one may be.

    Of the audit items on which only one of the two classifiers is right, the share that the adapted one wins has a Beta
    posterior. The checks count as one more such item.
    """
    known = np.flatnonzero(evidence.audit >= 0)
    if len(known) == 0:
        return alone
    won, lost = _discordant(evidence, known)
    prior = (2, 1) if alone.accept else (1, 2)
    better = float(beta.sf(0.5, won + prior[0], lost + prior[1]))
    told = f"Of {len(known)} labelled target items, {won} are right only after adapting and {lost} only before."
    if alone.accept:
        accept = better >= 1 - SURE
        verdict: Verdict = ("improved" if better >= 0.5 else "undetermined") if accept else "harmful"
    else:
        accept = better >= SURE
        verdict = "improved" if accept else ("harmful" if better <= 1 - SURE else alone.verdict)
    sure = better if verdict == "improved" else (1 - better if verdict == "harmful" else alone.confidence)
    return Decision(verdict, sure, accept, [told, *alone.reasons], alone.checks, len(known))


def _discordant(evidence: Evidence, known: Ints) -> tuple[int, int]:
    truth = evidence.audit[known]
    before = predicted(evidence.target_before[known]) == truth
    after = predicted(evidence.target_after[known]) == truth
    return int((after & ~before).sum()), int((before & ~after).sum())
