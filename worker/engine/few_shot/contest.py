"""The contest of a job that is measured on episodes: all arms on the same ones, the verdict by pairs, what is served.

The rival is the baseline that is best on episodes of the first way and shot: frozen features with class means or a
linear head, or plain fine-tuning on the same support sets. Across domains meta-learners lose to these (Chen et al.,
ICLR 2019); where they do, the job says so and serves class means of the frozen base model.
"""

from dataclasses import dataclass, replace

import numpy as np

from core.contract.few_shot import EpisodeReport
from core.contract.methods.episodic import Episodic, MetaLearning
from core.contract.methods.simple_shot import SimpleShot as SimpleShotOptions
from core.contract.prepare import ImagePrepare
from core.contract.verdicts import Arm, Difference, Judgement, Verdict
from worker.engine import arms
from worker.engine.arms import ArmRun
from worker.engine.contest import Contest, Ground, pretrained, serving
from worker.engine.few_shot import words
from worker.engine.few_shot.baselines import LOGISTIC, SIMPLE_SHOT, TUNING, Logistic, PlainTuning, SimpleShot
from worker.engine.few_shot.embedder import on_network
from worker.engine.few_shot.episodes import turns_of
from worker.engine.few_shot.learnt import Learnt
from worker.engine.few_shot.measuring import Contestant, Measured, difference, episodes_of, interval, measure
from worker.engine.few_shot.settling import SMALL, is_scratch, kind_of
from worker.engine.few_shot.training import frozen_views
from worker.engine.methods.simple_shot import centre_of, class_means
from worker.engine.task import Task, Trained

MARGIN = 0.005  # of the accuracy over episodes: less is of no use to anybody
_TUNING_SECONDS = 60.0  # for each kind of episode
_NAMED = 20


@dataclass(frozen=True)
class _Asked:
    """What all arms said, by arm, in the order of the tests; and notes on arms."""

    measured: dict[str, list[Measured]]
    notes: dict[str, str]

    def first(self, name: str) -> Measured:
        """On the episodes that the verdict rests on."""
        return self.measured[name][0]


def compare(ground: Ground, trained: Trained) -> Contest:
    """Ask all arms the same episodes, judge the method, choose what is served."""
    task, learnt = ground.task, trained.learnt
    assert learnt is not None
    method = arms.of_method(task, trained, ground.train_seconds)
    name, frozen, reason = method.name, task, ""
    if ground.spec.baselines != "none" and name != SIMPLE_SHOT:
        frozen, reason = _frozen(ground)
    rivals = [] if ground.spec.baselines == "none" else _rivals(ground, learnt, frozen)
    asked = _ask(task, [Contestant(name, learnt.answer, learnt.seen), *_more(task, learnt), *rivals], learnt)
    asked.notes.update({rival.name: reason for rival in rivals if reason})
    baselines = [rival.name for rival in rivals]
    if not baselines:
        return Contest(method, [_told(asked, method, None, served=True)], None, episodes=_report(asked, trained))
    judgement = _judge(asked, name, baselines)
    better = _better(task, frozen, method, asked, judgement)
    served = method if ground.spec.guard == "off" else better
    judgement = judgement.model_copy(
        update={
            "served": served.name,
            "overridden": served is not better,
            "sentence": f"{judgement.sentence} {serving(served, better)}".strip(),
        }
    )
    rows = [_told(asked, method, None, served=served is method)]
    for rival in baselines:
        run = served if served.name == rival else ArmRun(rival)
        rows.append(_told(asked, run, difference(asked.first(name), asked.first(rival)), served=served.name == rival))
    return Contest(served, rows, judgement, episodes=_report(asked, trained, served))


def _frozen(ground: Ground) -> tuple[Task, str]:
    """The job with its base model frozen, with pretrained weights if there are any; and what is to be said of that."""
    task = ground.task
    if not isinstance(task.options, MetaLearning) or not is_scratch(task.options, task.base):
        return task, ""
    found, reason = pretrained(ground)
    return replace(task, features=found, base=found.base), reason


def _rivals(ground: Ground, learnt: Learnt, frozen: Task) -> list[Contestant]:
    task, options = ground.task, ground.task.options
    assert isinstance(options, Episodic)
    views = frozen_views(frozen, learnt.material.measured, rotations=options.rotations)
    centre = centre_of(frozen, learnt.material)
    found = [Contestant(LOGISTIC, Logistic(centre), views)]
    if options.name != SIMPLE_SHOT:
        found.insert(0, Contestant(SIMPLE_SHOT, SimpleShot(centre), views))
    if isinstance(options, MetaLearning) and _tunes(ground, options):
        module = on_network(frozen, "none" if is_scratch(options, task.base) else options.freeze).module
        found.append(Contestant(TUNING, PlainTuning(module), learnt.views, seconds=_TUNING_SECONDS))
    return found


def _tunes(ground: Ground, options: MetaLearning) -> bool:
    """Whether plain fine-tuning is a baseline: of a network, small enough to be tuned hundreds of times."""
    prepare = ground.task.base.identity.card.prepare
    network = kind_of(options, is_scratch(options, ground.task.base)) != "features"
    small = isinstance(prepare, ImagePrepare) and prepare.size <= SMALL
    return network and (small or ground.spec.baselines == "all")


def _more(task: Task, learnt: Learnt) -> list[Contestant]:
    """The same with all items asked about known at once, where that is wanted."""
    options = task.options
    if not isinstance(options, SimpleShotOptions) or options.transductive == "none":
        return []
    answer = SimpleShot(centre_of(task, learnt.material), options.transductive)
    return [Contestant(f"{SIMPLE_SHOT}_{options.transductive}", answer, learnt.views)]


def _ask(task: Task, who: list[Contestant], learnt: Learnt) -> _Asked:
    options = task.options
    assert isinstance(options, Episodic)
    measured: dict[str, list[Measured]] = {one.name: [] for one in who}
    for test in learnt.material.tests:
        episodes = episodes_of(learnt.material.test_pool, test, options.episodes, task.seed)
        for one in who:
            measured[one.name].append(measure(one, test, episodes, task.device, task.wishes.check))
    return _Asked(measured, {})


def _judge(asked: _Asked, name: str, baselines: list[str]) -> Judgement:
    """By the first way and shot; where fewer episodes were asked, by those."""
    ours = asked.first(name)
    rival = max(baselines, key=lambda one: float(asked.first(one).right.mean()))
    theirs = asked.first(rival)
    found = difference(ours, theirs)
    verdict = _rule(found)
    return Judgement(
        verdict=verdict,
        sentence=words.sentence(verdict, ours, theirs, found),
        metric="accuracy",
        baseline=rival,
        difference=found,
        items=min(len(ours.right), len(theirs.right)),
        margin=MARGIN,
        served="",
    )


def _rule(found: Difference) -> Verdict:
    if found.high < 0:
        return "harmful"
    if found.high <= MARGIN:
        return "not_improved"
    return "improved" if found.low > 0 and found.effect >= MARGIN else "undetermined"


def _better(task: Task, frozen: Task, method: ArmRun, asked: _Asked, judgement: Judgement) -> ArmRun:
    """What should be served: the method, unless class means of the frozen base model are surely better."""
    if method.name == SIMPLE_SHOT or judgement.verdict == "improved":
        return method
    if difference(asked.first(method.name), asked.first(SIMPLE_SHOT)).high >= 0:
        return method
    merged = task.data.merged()
    found = class_means(frozen.features(merged.train), merged.train.labels, len(merged.classes))
    trained = Trained(merged, found.head, out_of_fold=found.out_of_fold, few_shot=found.few_shot)
    held_out = found.head(frozen.features(merged.held_out))
    return ArmRun(
        SIMPLE_SHOT, "baseline", "measured", trained, frozen.features, found.out_of_fold, held_out.astype(np.float32)
    )


def _told(asked: _Asked, run: ArmRun, found: Difference | None, *, served: bool) -> Arm:
    measured = asked.first(run.name)
    mean, half = interval(measured.right)
    return Arm(
        name=run.name,
        role=run.role,
        state="measured",
        value=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        seconds=run.seconds if run.seconds is not None else round(measured.seconds, 4),
        difference=found,
        served=served,
        options=run.trained.options if run.trained is not None else {},
        note=asked.notes.get(run.name, ""),
    )


def _report(asked: _Asked, trained: Trained, served: ArmRun | None = None) -> EpisodeReport:
    learnt = trained.learnt
    assert learnt is not None
    material = learnt.material
    turns = turns_of(material.options)
    figures = [one.figure(asked.notes.get(name, "")) for name, found in asked.measured.items() for one in found]
    known = trained if served is None or served.trained is None else served.trained
    return EpisodeReport(
        figures=figures,
        train_classes=len(material.split.train) * turns,
        validation_classes=len(material.split.validation) * turns,
        test_classes=material.test_pool.classes,
        test_examples=material.test_names[:_NAMED],
        grouped=material.split.grouped,
        outliers=_outliers(known, learnt),
        sentence=words.episodes(figures, material),
    )


def _outliers(known: Trained, learnt: Learnt) -> float | None:
    """Share of items of the source's test classes that would be none of the others, were these not known."""
    few, test = known.few_shot, learnt.material.split.test
    if few is None or few.least_logit is None or known.out_of_fold is None or not test:
        return None
    rows = np.isin(known.data.train.labels, test)
    others = [number for number in range(known.head.classes) if number not in set(test)]
    if not rows.any() or not others:
        return None
    return float((known.out_of_fold[rows][:, others].max(axis=1) < few.least_logit).mean())
