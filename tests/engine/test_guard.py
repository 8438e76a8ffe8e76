"""The guard: accepts what helps, refuses what harms, without labels of the target; heeds a few where it has them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.engine.adaptation import guard
from worker.engine.adaptation.evidence import Evidence
from worker.engine.methods.maths.pseudo_labels import Selective, selective
from worker.engine.stages import Unit

CLASSES, WIDTH = 5, 32
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def domain(seed: int, counts: list[int], *, moved: bool) -> tuple[Floats, Ints]:
    """Lumps; a moved domain is turned a little and lies elsewhere."""
    base, rng = np.random.default_rng(7), np.random.default_rng(seed)
    means = base.normal(size=(CLASSES, WIDTH)) / np.sqrt(WIDTH)
    turn = np.linalg.qr(np.eye(WIDTH) + 0.08 * base.normal(size=(WIDTH, WIDTH)))[0]
    turn = turn * np.sign(np.diag(turn))
    y = np.repeat(np.arange(CLASSES), counts)
    x = means[y] + 0.09 * rng.normal(size=(len(y), WIDTH)) + 0.5
    return ((x - 0.5) @ turn + 0.5 + 0.25 * base.normal(size=WIDTH) if moved else x).astype(np.float32), y


def nearest(xs: Floats, ys: Ints, x: Floats) -> Floats:
    means = np.stack([Unit()(xs)[ys == c].mean(axis=0) for c in range(CLASSES)])
    return np.asarray(2 * Unit()(x) @ means.T - np.square(means).sum(axis=1), dtype=np.float32)


def evidence(xt: Floats, *, labels: Ints | None = None) -> Evidence:
    """Of selective pseudo-labels, or of `labels` given to the target's items."""
    xs, ys = domain(0, [40] * CLASSES, moved=False)
    found = selective(xs, ys, xt, CLASSES, Selective(axes=16))
    after = found.target(xt) if labels is None else np.eye(CLASSES, dtype=np.float32)[labels]
    return Evidence(
        xs,
        ys,
        xt,
        nearest(xs, ys, xs),
        nearest(xs, ys, xt),
        found.source(xs),
        after,
        found.source.represent(xs),
        found.target.represent(xt),
        np.full(len(xt), -1),
    )


def decide(found: Evidence) -> guard.Decision:
    return guard.decide(found, np.random.default_rng(0))


def refused(decision: guard.Decision) -> set[str]:
    return {check.rule.name for check in decision.checks if not check.passed}


def test_what_helps_is_accepted() -> None:
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    found = evidence(xt)
    right = [(logits.argmax(axis=1) == yt).mean() for logits in (found.target_before, found.target_after)]
    assert right[1] > right[0] + 0.05
    decision = decide(found)
    assert decision.accept, decision.reasons
    assert decision.verdict == "improved"
    assert 0.5 < decision.confidence <= 1


def test_without_a_shift_there_is_nothing_to_gain() -> None:
    xt, _ = domain(1, [30] * CLASSES, moved=False)
    decision = decide(evidence(xt))
    assert not decision.accept
    assert decision.verdict == "not_improved"


def test_domains_of_different_kinds_need_no_shift_between_them() -> None:
    """Where what is compared was learnt to be alike, likeness is no reason against it."""
    xt, _ = domain(1, [30] * CLASSES, moved=False)
    decision = decide(replace(evidence(xt), across=True))
    assert "shift_before" not in refused(decision)
    shown = {check.name: check for check in decision.report().checks}
    assert shown["shift_before"].value is None


def test_classes_that_were_made_up_are_refused() -> None:
    xt, yt = domain(1, [70, 70, 0, 0, 0], moved=True)
    invented = np.where(np.arange(len(yt)) % 2, yt, yt + 2)
    decision = decide(evidence(xt, labels=invented))
    assert not decision.accept
    assert refused(decision) & {
        "misplaced_classes",
        "worst_class",
        "neighbours",
        "misplaced_of_ordered",
        "worst_of_ordered",
    }


@pytest.mark.parametrize("spoilt", ["shuffled", "turned over"])
def test_a_target_that_has_nothing_to_do_with_the_source_is_refused(spoilt: str) -> None:
    xt, _ = domain(1, [30] * CLASSES, moved=True)
    rng = np.random.default_rng(3)
    made = {"shuffled": xt[:, rng.permutation(WIDTH)], "turned over": 2 * xt.mean(axis=0) - xt}
    decision = decide(evidence(made[spoilt]))
    assert not decision.accept
    assert decision.verdict in {"undetermined", "harmful"}
    assert decision.reasons


def test_a_collapse_is_harmful() -> None:
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    decision = decide(evidence(xt, labels=np.zeros_like(yt)))
    assert not decision.accept
    assert {"collapse", "lost_classes"} <= refused(decision)


def test_random_answers_are_refused() -> None:
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    decision = decide(evidence(xt, labels=np.random.default_rng(0).permutation(yt)))
    assert not decision.accept
    assert {"agreement", "neighbours"} <= refused(decision)


def audited(found: Evidence, yt: Ints, count: int) -> Evidence:
    """With labels of `count` items on which the two classifiers differ."""
    audit = np.full(len(yt), -1)
    differ = np.flatnonzero(found.target_before.argmax(axis=1) != found.target_after.argmax(axis=1))[:count]
    assert len(differ) == count
    audit[differ] = yt[differ]
    return replace(found, audit=audit)


def test_audit_labels_overrule_the_checks_both_ways() -> None:
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    wrong = evidence(xt, labels=np.random.default_rng(0).permutation(yt))
    harmed = decide(audited(replace(wrong, target_before=np.eye(CLASSES, dtype=np.float32)[yt]), yt, 10))
    assert (harmed.accept, harmed.verdict, harmed.audit_items) == (False, "harmful", 10)
    right = replace(wrong, target_after=np.eye(CLASSES, dtype=np.float32)[yt], target_before=wrong.target_after)
    assert not decide(right).accept
    helped = decide(audited(right, yt, 10))
    assert (helped.accept, helped.verdict) == (True, "improved")


def test_the_labels_of_the_target_have_no_part_in_it() -> None:
    """What is not an audit label is not in the evidence at all; the same evidence gives the same decision."""
    xt, _ = domain(1, [30] * CLASSES, moved=True)
    first, second = decide(evidence(xt)), decide(evidence(xt))
    assert first == second


def test_the_report_can_be_stored_and_says_each_threshold() -> None:
    xt, _ = domain(1, [30] * CLASSES, moved=True)
    report = decide(evidence(xt)).report()
    again = type(report).model_validate_json(report.model_dump_json())
    assert again == report
    assert {check.name for check in report.checks} >= {"shift_before", "kinship", "kinship_kept", "source_loss"}
    assert all(check.threshold[:2] in {"<=", ">="} and check.meaning for check in report.checks)


def alone(found: Evidence) -> Evidence:
    """The same without source items."""
    none = {name: getattr(found, name)[:0] for name in ("xs", "ys", "source_before", "source_after")}
    return replace(found, **none, source_inner=None, target_inner=None)


def test_without_source_items_nothing_is_asked_of_them() -> None:
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    labels = yt.copy()
    labels[::15] = (labels[::15] + 1) % CLASSES
    found = replace(evidence(xt, labels=yt), target_before=np.eye(CLASSES, dtype=np.float32)[labels])
    decision = decide(alone(found))
    assert decision.accept, decision.reasons
    assert not any(check.rule.of_source for check in decision.checks)
    assert not any(np.isnan(check.value) for check in decision.checks)
    assert "no source items" in decision.reasons[-1]
    assert decision.confidence < guard.unaided(decision.checks).confidence


def test_without_source_items_much_may_not_change() -> None:
    """Half of the answers are others: adapted or invented, nobody knows; a shuffle is refused as well."""
    xt, yt = domain(1, [30] * CLASSES, moved=True)
    labels = np.where(np.arange(len(yt)) % 2, yt, (yt + 1) % CLASSES)
    before = np.eye(CLASSES, dtype=np.float32)[labels]
    decision = decide(alone(replace(evidence(xt, labels=yt), target_before=before)))
    assert (decision.accept, decision.verdict, refused(decision)) == (False, "undetermined", {"agreement_alone"})
    wrong = replace(evidence(xt, labels=np.random.default_rng(0).permutation(yt)), target_before=before)
    assert {"agreement_alone", "neighbours"} <= refused(decide(alone(wrong)))


def test_without_source_items_answers_may_not_be_evened_out() -> None:
    """Where the target has one class far more often than others, and the adapted classifier spreads it over them."""
    xt, yt = domain(1, [130, 8, 4, 4, 4], moved=True)
    found = evidence(xt, labels=np.where((yt == 0) & (np.arange(len(yt)) % 5 == 0), 1 + np.arange(len(yt)) % 4, yt))
    decision = decide(alone(replace(found, target_before=np.eye(CLASSES, dtype=np.float32)[yt])))
    assert not decision.accept
    assert "class_shares" in refused(decision)
