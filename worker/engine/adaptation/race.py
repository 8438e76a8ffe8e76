"""`auto` with a target: which adapted classifier to trust, chosen without labels of the target.

No figure without labels ranks candidates well enough to choose the best of many by it; choosing by one costs more than
a fixed good choice. So the candidates stand in a fixed order, the one that is best on most pairs of domains first, and
the first that the guard's rules accept is taken:

1. where classes lie in lumps: pseudo-labels (six fits of the selective kind) with prototypes, if both are accepted,
   first as they are passed on among the target's neighbours, then as they are; then pseudo-labels alone;
2. pseudo-labels with a centred probe, which needs no lumps;
3. the centred probe alone;
4. the source-only classifier.

Where other class shares account for the distance between the domains, label-shift correction stands there alone.

With audit labels the candidate that is right on most of them wins, among equals the first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from core.contract.datasets import Modality
from worker.engine.adaptation import guard, rules, runners
from worker.engine.adaptation.evidence import Evidence
from worker.engine.adaptation.guard import Decision
from worker.engine.adaptation.measures import Ground
from worker.engine.devices import allotted
from worker.engine.methods.adapting import Adapted, Domains, adapt, mixed
from worker.engine.task import Raced, Task, Trained

Floats = NDArray[np.float32]
SOURCE_ONLY = "source_only"
SELECTIVE = "selective_pseudo_labels"
LUMPS = "pseudo_labels_and_prototypes"
SPREAD = "pseudo_labels_among_neighbours"
PSEUDO_LABELS = "pseudo_labels_and_centring"
CENTRED = "centred_probe"
PRIORS = "label_shift"
_LUMPY = 0.5  # share of a source item's neighbours that are of its class, beyond chance
_SPREAD_ITEMS = 10_000  # each is compared with every other: some five seconds on two cores
_ACCOUNTED = 0.8  # share of the distance between the domains that other class shares have to explain


@dataclass(frozen=True)
class Runner:
    """A candidate, and what the guard makes of it (nothing of the source-only classifier)."""

    name: str
    adapted: Adapted
    decision: Decision | None
    seconds: float
    audited: float
    """Share of the audit items that it answers rightly; 0 where there are none."""


@dataclass(frozen=True)
class Result:
    """All that ran, and which was chosen."""

    runners: list[Runner]
    chosen: Runner
    notes: tuple[str, ...] = ()


def run(task: Task, seconds: float) -> Trained:
    """Race on the frozen features of source and target; what is handed back is the winner's, with all in `raced`.

    Once `seconds` are over, or the user says stop, no further candidate is begun.
    """
    results: list[Result] = []
    end = time.monotonic() + seconds
    modality = task.data.source.modality

    def fit(found: Domains, rng: np.random.Generator) -> Adapted:
        # Of many small problems: with all cores on each, BLAS threads wait for one another more than they work.
        with threadpool_limits(max(1, allotted() // 2), user_api="blas"):
            result = contend(found, rng, modality, check=task.wishes.check, over=lambda: over(end, task))
        results.append(result)
        return result.chosen.adapted

    trained = adapt(task, fit)
    last = results[-1]
    unknown = np.full((len(trained.data.train), trained.data.outputs), np.nan, dtype=np.float32)
    raced = [
        Raced(
            one.name,
            trained
            if one is last.chosen
            else Trained(trained.data, one.adapted.head, out_of_fold=unknown, on_source=one.adapted.on_source),
            one.seconds,
            won=one is last.chosen,
        )
        for one in last.runners
        if one.name != SOURCE_ONLY
    ]
    options: dict[str, object] = {"winner": last.chosen.name, "raced": [one.name for one in last.runners]}
    return replace(trained, options=options | trained.options, raced=raced, notes=[*story(last), *trained.notes])


def over(end: float, task: Task) -> bool:
    """Whether no more is to be begun."""
    return task.wishes.stop() or time.monotonic() > end


def contend(
    found: Domains,
    rng: np.random.Generator,
    modality: Modality = "image",
    *,
    check: Callable[[], None] = lambda: None,
    over: Callable[[], bool] = lambda: False,
) -> Result:
    """Run the candidates and choose one; `check` may raise, to end it, and `over` says that those so far will do."""
    race = _Race.begin(found, rng, modality)
    if over():
        return Result(race.ran, race.best([]))
    by_priors = race.judged(PRIORS, lambda: runners.shifted(found, race.probe, rng, modality))
    check()
    centred = race.judged(CENTRED, lambda: runners.centred(found, rng, modality))
    check()
    if over():
        return Result(race.ran, race.best([by_priors] if _accounted(by_priors) else [centred]))
    selective = race.judged(SELECTIVE, lambda: runners.selective(found, modality))
    check()
    prototypes = race.judged("prototype_self_training", lambda: runners.prototypes(found, modality))
    check()
    lumps = race.judged(LUMPS, lambda: mixed(found, [selective.adapted, prototypes.adapted], [2, 1]))
    guesses = race.judged(PSEUDO_LABELS, lambda: mixed(found, [selective.adapted, centred.adapted], [3, 2]))
    order = [guesses, centred]
    if race.ground.source_neighbours >= _LUMPY:
        order = [selective, *order]
        if _accepted(prototypes) and _accepted(selective):
            order = [lumps, *order]
    if _accounted(by_priors):
        return Result(race.ran, race.best([by_priors]))
    if order[0] is not lumps or not _accepted(lumps) or over():
        return Result(race.ran, race.best(order))
    if len(found.xt) > _SPREAD_ITEMS:
        note = f"`{SPREAD}` was left out: beyond {_SPREAD_ITEMS:,} target items finding neighbours takes too long."
        return Result(race.ran, race.best(order), (note,))
    check()
    order = [race.judged(SPREAD, lambda: runners.spread(found, lumps.adapted, modality)), *order]
    return Result(race.ran, race.best(order))


@dataclass
class _Race:
    found: Domains
    probe: runners.Probe
    ground: Ground
    ran: list[Runner]

    @classmethod
    def begin(cls, found: Domains, rng: np.random.Generator, modality: Modality) -> "_Race":
        """With the source-only classifier, which has no judge."""
        begun = time.monotonic()
        probe = runners.source_only(found, rng, modality)
        ground = Ground.of(_evidence(found, probe, probe.adapted), rng)
        race = cls(found, probe, ground, [])
        race.ran.append(Runner(SOURCE_ONLY, probe.adapted, None, time.monotonic() - begun, race.right(probe.adapted)))
        return race

    def judged(self, name: str, make: Callable[[], Adapted]) -> Runner:
        """Run one and ask the guard; audit labels are left to the choice."""
        begun = time.monotonic()
        adapted = make()
        decision = guard.unaided(rules.checks(self.ground.measure(_evidence(self.found, self.probe, adapted))))
        runner = Runner(name, adapted, decision, time.monotonic() - begun, self.right(adapted))
        self.ran.append(runner)
        return runner

    def best(self, order: list[Runner]) -> Runner:
        """The first that is accepted; with audit labels the one of all that ran that is right most often."""
        standard = next((one for one in order if _accepted(one)), self.ran[0])
        if not (self.found.audit >= 0).any():
            return standard
        return max([standard, *order, *self.ran], key=lambda one: one.audited)

    def right(self, adapted: Adapted) -> float:
        """Share of the audit items that it answers rightly."""
        known = np.flatnonzero(self.found.audit >= 0)
        if len(known) == 0:
            return 0.0
        return float((adapted.head(self.found.xt[known]).argmax(axis=1) == self.found.audit[known]).mean())


def _evidence(found: Domains, before: runners.Probe, adapted: Adapted) -> Evidence:
    return Evidence(
        xs=found.xs,
        ys=found.ys,
        xt=found.xt,
        source_before=before.honest,
        target_before=before.adapted.head(found.xt),
        source_after=adapted.source_head(found.xs),
        target_after=adapted.head(found.xt),
        source_inner=None,
        target_inner=None,
        audit=np.full(len(found.xt), -1),
    )


def _accounted(by_priors: Runner) -> bool:
    """Whether other class shares account for the distance between the domains."""
    explained = by_priors.adapted.options.get("explained")
    return isinstance(explained, float) and explained >= _ACCOUNTED


def _accepted(one: Runner) -> bool:
    return one.decision is not None and one.decision.accept


def story(result: Result) -> list[str]:
    """What was run and why the winner won, for the report."""
    told = [
        f"Raced without labels of the target: the first of a fixed order that the guard accepts is taken; it is "
        f"`{result.chosen.name}`."
    ]
    for one in result.runners:
        if one.decision is not None and not one.decision.accept:
            told.append(f"`{one.name}` was refused: {one.decision.reasons[0]}")
    return [*told, *result.notes]
