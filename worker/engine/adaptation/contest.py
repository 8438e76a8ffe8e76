"""The contest of a job that adapts: judged without labels of the target, measured by them where there are some.

The guard (`worker.engine.adaptation.guard`) says whether the adapted classifier may be served, from the target's items
alone; else what was trained on the source alone is served. Where there is no source, the model that the job starts from
stands in that one's place, as it was. Labels of the target, but for audit labels, decide nothing:
they say afterwards, by a paired test on items that nothing was chosen by, whether the transfer helped.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.contract.methods import LinearProbe
from core.contract.shifts import Shift
from core.contract.verdicts import Judgement
from worker.engine import arms, hypothesis, judge, lineage, scratch
from worker.engine.adaptation import guard
from worker.engine.adaptation.evidence import Evidence
from worker.engine.adaptation.guard import Decision
from worker.engine.arms import ArmRun, attempt, logits_of
from worker.engine.contest import Contest, Field, Ground, serving, told
from worker.engine.data import Items, JobData
from worker.engine.frozen import FrozenFeatures
from worker.engine.heads import Head
from worker.engine.methods import adapting, linear_probe
from worker.engine.methods.shift_report import Sides, measure
from worker.engine.partners import paired
from worker.engine.problems import score_name
from worker.engine.task import Task, Trained

SOURCE_ONLY, PAIRED_ONLY = "source_only", "paired_only"
_NEVER = -30.0  # logit of a class that is not answered
_UNKNOWN = "There is no source, and so no labelled item to make it from."
_RIVALS = {SOURCE_ONLY, PAIRED_ONLY, lineage.NAME}
Floats = NDArray[np.float32]
_Inner = tuple[Floats, Floats] | None


def compare(ground: Ground, trained: Trained) -> Contest:
    """Measure all arms, judge the method, choose what is served, measure the shift before and after."""
    task = ground.task
    made = arms.of_method(task, trained, ground.train_seconds)
    method = replace(made, is_probe=False, frozen=_of_target(task))
    raced = [arms.of_race(task, one) for one in trained.raced if not one.won]
    baselines = [] if ground.spec.baselines == "none" else _baselines(ground)
    runs = [method, *raced, *baselines]
    field = Field.of(task.data.merged(), runs)
    inner = _inner(task, trained)
    shift = _shift(task, inner)
    rival = next((arm for arm in baselines if arm.name in _RIVALS and arm.state == "measured"), None)
    if rival is None:
        return Contest(method, told(task, field, runs, {}, method), None, shift)
    decision = guard.decide(evidence(task, method, rival, inner), task.rng())
    better = method if decision.accept else rival
    served = method if ground.spec.guard == "off" else better
    ruling = _measured(task, field, method, baselines)
    judgement = _unmeasured(task, decision, rival) if ruling is None else ruling.judgement
    judgement = judgement.model_copy(
        update={
            "served": served.name,
            "overridden": served is not better,
            "sentence": f"{judgement.sentence} {serving(served, better)}".strip(),
            "guard": decision.report(),
        }
    )
    return Contest(served, told(task, field, runs, ruling.differences if ruling else {}, served), judgement, shift)


def _shift(task: Task, inner: _Inner) -> Shift | None:
    """How far the domains lie apart before and after; None where they are of different kinds, or one is not there."""
    if task.data.hypothesis is not None:
        return None
    found = adapting.domains(task, task.data.merged())
    if found.xs.shape[1] != found.xt.shape[1]:
        return None
    sides = Sides(found.xs, found.ys, found.xt, task.data.classes, found.source_names, found.target_names)
    return measure(sides, task.rng(), after=inner)


def evidence(task: Task, method: ArmRun, rival: ArmRun, inner: _Inner) -> Evidence:
    """What the guard may know; items of different kinds are compared as the adapted classifier represents them."""
    data, target = task.data.merged(), adapting.target_items(task)
    assert method.trained is not None
    assert rival.trained is not None
    check, mixed = task.wishes.check, task.options.heterogeneous and inner is not None
    return Evidence(
        xs=inner[0] if mixed and inner else task.features(data.train),
        ys=data.train.labels,
        xt=inner[1] if mixed and inner else task.features(target),
        source_before=rival.choosing,
        target_before=logits_of(rival.trained, target, task.features, check),
        source_after=method.choosing,
        target_after=logits_of(method.trained, target, task.features, check),
        source_inner=None if inner is None else inner[0],
        target_inner=None if inner is None else inner[1],
        audit=target.labels,
        across=mixed,
    )


def _inner(task: Task, trained: Trained) -> _Inner:
    """How the adapted classifier represents source and target; a network that was trained is not asked again."""
    if trained.backbone is not None or task.data.hypothesis is not None:
        return None
    source, target = task.data.merged().train, adapting.target_items(task)
    on_source = trained.on_source or trained.head
    return on_source.represent(task.features(source)), trained.head.represent(task.features(target))


def _baselines(ground: Ground) -> list[ArmRun]:
    """What the user would have without adapting, the simplest last."""
    task, merged = ground.task, ground.task.data.merged()
    if task.options.heterogeneous:
        return [_paired_only(task, merged), attempt("majority", lambda: arms.constant(merged, _of_target(task)))]
    if merged.hypothesis is not None:
        left_out = [arms.skipped(name, _UNKNOWN) for name in ("nearest_class_mean", scratch.NAME, "majority")]
        return [attempt(lineage.NAME, lambda: _as_it_was(task, merged)), *left_out]
    probe = attempt(SOURCE_ONLY, lambda: arms.probe(task, merged, task.features))
    found = [replace(probe, name=SOURCE_ONLY)]
    found.append(attempt("nearest_class_mean", lambda: arms.class_means(merged, task.features)))
    found.append(arms.skipped(scratch.NAME, "A network from scratch knows nothing of the target either."))
    return [*found, attempt("majority", lambda: arms.constant(merged, task.features))]


def _as_it_was(task: Task, merged: JobData) -> ArmRun:
    """The model that the job starts from."""
    assert merged.hypothesis is not None
    assert task.parent is not None
    head = hypothesis.head(task.parent, merged.hypothesis)
    nothing = np.empty((0, head.classes), dtype=np.float32)
    trained = Trained(merged, head, out_of_fold=nothing)
    held_out = logits_of(trained, merged.held_out, task.features, task.wishes.check)
    return ArmRun(lineage.NAME, "baseline", "measured", trained, task.features, nothing, held_out)


def _of_target(task: Task) -> FrozenFeatures:
    """The target's own base model, where source and target are of different kinds."""
    return task.features.of(task.features.target) if task.features.mixed else task.features


def _paired_only(task: Task, merged: JobData) -> ArmRun:
    """A linear probe on those target items alone whose class their partner in the source tells.

    Classes of which no item is paired it never answers. What it answers a target item out of fold stands for the
    partner, whose class it is.
    """
    target, frozen = adapting.target_items(task), _of_target(task)
    rows = paired(adapting.names(merged.train), adapting.names(target))
    labels = merged.train.labels[rows[:, 0]]
    present, numbers = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return arms.skipped(PAIRED_ONLY, "Labelled items of fewer than two classes are paired.")
    known = Items(target.collection, target.indices[rows[:, 1]], labels)

    def probe() -> ArmRun:
        fitted = linear_probe.fit(frozen(known), numbers, len(present), LinearProbe(), rng=task.rng())
        head = _among(fitted.head, present, merged.outputs)
        answers = np.full((len(merged.train), merged.outputs), np.nan, dtype=np.float32)
        answers[rows[:, 0]] = _NEVER
        answers[rows[:, :1], present] = fitted.out_of_fold
        trained = Trained(merged, head, out_of_fold=answers)
        held_out = head(frozen(merged.held_out))
        return ArmRun(PAIRED_ONLY, "baseline", "measured", trained, frozen, answers, held_out)

    return attempt(PAIRED_ONLY, probe)


def _among(head: Head, present: NDArray[np.int64], classes: int) -> Head:
    """A head for some classes as one for all, which never answers the others."""
    weight = np.zeros((classes, head.weight.shape[1]), dtype=np.float32)
    bias = np.full(classes, _NEVER, dtype=np.float32)
    weight[present], bias[present] = head.weight, head.bias
    return replace(head, weight=weight, bias=bias)


def _measured(task: Task, field: Field, method: ArmRun, baselines: list[ArmRun]) -> judge.Ruling | None:
    """The verdict by labels of the new domain; None where there are none."""
    if task.data.evaluated_on in {"test_split", "nothing"}:
        return None
    return judge.judge(
        field.contenders[method.name],
        [field.contenders[arm.name] for arm in baselines if arm.state == "measured"],
        task.data.problem,
        task.data.held_out.labels,
        task.data.classes,
        rng=task.rng(),
    )


def _unmeasured(task: Task, decision: Decision, rival: ArmRun) -> Judgement:
    """The verdict without labels: what the guard trusts itself to say."""
    items = len(adapting.target_items(task))
    return Judgement(
        verdict=decision.verdict,
        sentence=decision.sentence,
        metric=score_name(task.data.problem),
        baseline=rival.name,
        items=items,
        margin=judge.margin(items),
        served="",
    )
