"""`rank_base_models`: which base model suits the data, told from frozen features before anybody pays for training.

Ranked by a linear probe and nearest neighbours (Renggli et al.: Which Model to Transfer? CVPR 2022); LogME (You et al.,
ICML 2021) decides between those that these cannot tell apart, and H-score (Bao et al., ICIP 2019) stands beside. Only
training and validation items are looked at. One base model after the other is opened, embeds, is judged, and is let go
of: memory does not grow with their number.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from core.catalogue import cards
from core.contract.base_models import BaseModelCard
from core.contract.errors import GraftError, JobError
from core.contract.reports import Candidate, Ranking
from core.contract.verdicts import Difference
from worker.engine.backbones import Base
from worker.engine.data import Items
from worker.engine.door import Wish
from worker.engine.exploration import Cost, EnoughError, Exploration, features
from worker.engine.methods.maths.relevance import weighted_kendall
from worker.engine.methods.ranking_words import sentence
from worker.engine.methods.suitability import SCORES, Question, Suitability, measure, sample
from worker.engine.paired import compare
from worker.engine.task import Finding


@dataclass(frozen=True)
class Judged:
    """A base model that was measured."""

    name: str
    card: BaseModelCard
    found: Suitability
    cost: Cost


def run(look: Exploration) -> Finding:
    """Judge all candidates by the same items. Raises `JobError` `no_candidate` if none of them could be measured."""
    search = _Search(look)
    search.run()
    if search.judged:
        return _finding(look, search)
    raise JobError(
        "None of the base models could be measured.",
        code="no_candidate",
        param="method.base_models",
        hint="; ".join(f"{one.base_model}: {one.note}" for one in search.others[:3]),
        details={"candidates": {one.base_model: one.note for one in search.others}},
    )


class _Search:
    """The candidates, one after the other."""

    def __init__(self, look: Exploration) -> None:
        self.look, options = look, look.options
        self.items = _items(look)
        self.question = Question.of(
            look.data.problem,
            self.items.labels,
            folds=options.folds,
            neighbours=options.neighbours,
            seed=look.seed,
            modality=look.data.source.modality,
        )
        self.judged: list[Judged] = []
        self.others: list[Candidate] = []
        """Base models that could not be measured, with why."""
        self._end = time.monotonic() + (options.max_seconds or float("inf"))

    def run(self) -> None:
        """Until all are judged, or the user or the clock says that it is enough."""
        look, names = self.look, _names(self.look)
        look.sink("resolved", {"method": look.options.model_dump(mode="json") | {"base_models": names}})
        for number, name in enumerate(names):
            try:
                self._wish()
                self._judge(name, number, len(names))
            except EnoughError:
                self.others += [_unmeasured(one, "skipped", self._why()) for one in names[number:]]
                return

    def _wish(self) -> Wish:
        """The user's wish; raises `EnoughError` where there is something to keep and no more is wanted."""
        if self.judged and (self.look.wishes.stop() or time.monotonic() > self._end):
            raise EnoughError
        self.look.wishes.check()
        return "go_on"

    def _check(self) -> None:
        self._wish()

    def _why(self) -> str:
        stopped = self.look.wishes.stopped
        return "The job was told to stop before." if stopped else "The time for the ranking was over before."

    def _judge(self, name: str, number: int, count: int) -> None:
        look = self.look

        def progress(done: int, total: int) -> None:
            look.steps.progress("compare", (number + 0.95 * done / max(total, 1)) / count)

        try:
            base = _open(look, name)
            x, cost = features(look, base, self.items, progress=progress, wish=self._wish)
            found = measure(x, self.question, self._check)
        except _AwayError:
            self.others.append(_unmeasured(name, "skipped", _AWAY))
        except (GraftError, RuntimeError, ValueError, OSError, MemoryError) as error:
            note = f"{error.message} {error.hint or ''}".strip() if isinstance(error, GraftError) else str(error)[:300]
            look.steps.say(f"{name}: {note}")
            self.others.append(_unmeasured(name, "failed", note))
        else:
            self.judged.append(Judged(name, base.identity.card, found, cost))
            look.steps.say(f"{name}: {found.score:.3f} (probe {found.probe:.3f}, neighbours {found.knn:.3f})")
            look.steps.progress("compare", (number + 1) / count)


def _items(look: Exploration) -> Items:
    """Training and validation items that everything is measured on."""
    train = look.data.merged().train
    rng = np.random.default_rng(look.seed)
    chosen = sample(look.data.problem, train.labels, look.options.max_items, rng)
    return replace(train, indices=train.indices[chosen], labels=train.labels[chosen])


def _names(look: Exploration) -> list[str]:
    """The candidates' names, each once."""
    wanted = look.options.base_models
    if wanted != "all":
        return list(dict.fromkeys(wanted))
    known = [card for card in cards() if card.modality == look.data.source.modality]
    return [card.id for card in known if card.modality == "tabular" or card.weights.source != "none"]


_AWAY = "Its weights are not on this machine; name it in `base_models`, and it is fetched where that can be done."


class _AwayError(Exception):
    """The weights would have to be fetched."""


def _open(look: Exploration, name: str) -> Base:
    if look.options.base_models == "all" and not look.here(next(card for card in cards() if card.id == name)):
        raise _AwayError
    return look.open(name)


def _unmeasured(name: str, state: str, note: str) -> Candidate:
    known = next((card for card in cards() if card.id == name), None)
    return Candidate.model_validate(
        {
            "base_model": name,
            "title": known.title if known else name,
            "parameters": known.parameters if known else 0,
            "state": state,
            "note": note,
        }
    )


def _finding(look: Exploration, search: _Search) -> Finding:
    question = search.question
    order, behind, equal = _order(search.judged, look.seed)
    ranking = Ranking(
        candidates=[
            *(_candidate(rank, one, behind.get(one.name), len(question.targets)) for rank, one in enumerate(order, 1)),
            *search.others,
        ],
        items=len(question.targets),
        folds=question.folds or len(question.targets),
        equal=equal,
        agreement=agreement([one.found for one in order]),
        sentence="",
    )
    ranking = ranking.model_copy(update={"sentence": sentence(ranking, look.data.problem)})
    look.sink("metric", {"score": order[0].found.score})
    return Finding({"ranking": ranking, "base_model": order[0].name})


def _order(judged: list[Judged], seed: int) -> tuple[list[Judged], dict[str, Difference], list[str]]:
    """Best first, how far each is behind the highest score, and who cannot be told from the first.

    By probe and neighbours; among those that a paired test on the same items cannot tell from the highest score, LogME
    decides: it is finer, and put real base models in a truer order than differences that are chance.
    """
    leader = max(judged, key=lambda one: (one.found.score, one.found.logme))
    behind = {
        one.name: compare(leader.found.items, one.found.items, np.random.default_rng(seed))
        for one in judged
        if one is not leader
    }
    near = [one for one in judged if one is leader or behind[one.name].low <= 0]
    rest = [one for one in judged if one not in near]
    near.sort(key=lambda one: -one.found.logme)
    rest.sort(key=lambda one: (-one.found.score, -one.found.logme))
    return near + rest, behind, [one.name for one in near[1:]]


def _candidate(rank: int, one: Judged, behind: Difference | None, items: int) -> Candidate:
    found, per_item = one.found, max(one.cost.seconds_per_item, 1e-9)
    return Candidate(
        base_model=one.name,
        title=one.card.title,
        rank=rank,
        score=found.score,
        behind=behind,
        probe=found.probe,
        knn=found.knn,
        logme=found.logme,
        h_score=found.h_score,
        seconds=per_item * items,
        items_per_second=1 / per_item,
        memory_bytes=one.cost.memory_bytes,
        parameters=one.card.parameters,
    )


def agreement(order: list[Suitability]) -> dict[str, float]:
    """Weighted Kendall tau of each score with the ranking, best first; those that are all alike have none."""
    places = [float(-rank) for rank in range(len(order))]
    taus = {name: weighted_kendall([getattr(found, name) for found in order], places) for name in SCORES}
    return {name: tau for name, tau in taus.items() if np.isfinite(tau)}
