"""How long a job takes, step by step."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from core.contract.jobs import StepName
from core.contract.methods import Auto, FineTune, LinearProbe, RankBaseModels
from core.contract.methods.deep import DeepAdaptation
from core.contract.methods.episodic import MetaLearning
from core.estimating import assumed, episodes
from core.estimating.adaptation import from_scratch
from core.estimating.course import Course, adapting_course, course_of
from core.estimating.parted import Usual
from core.estimating.rates import Rate, Rates
from core.estimating.work import Device, Work

Basis = Literal["measured", "history", "assumed"]
RACE_SECONDS = 600.0
"""How long a race may take without a budget."""
FIRST = "first"
"""What a job's start varies by: whether it is the first one from its base model, or `""`."""
_SOON = 60  # steps in which a head that starts from a probe is not beaten, as a rule
_RACED = 0.6  # how often a race goes beyond its probe
_LOGISTIC_ROWS = 20_000
_ROWS = 2000  # training rows up to which a table's network is trained from scratch without being asked for


@dataclass
class Sum:
    """Seconds with what is uncertain about them; `low` and `high` hold what is uncertain by the job's own course."""

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0
    deviation: float = 0.0
    by_basis: dict[Basis, float] = field(default_factory=dict)

    def add(self, units: float, rate: Rate, *, low: float | None = None, high: float | None = None) -> None:
        """So many units of a rate; `low` and `high` are units, too."""
        self.expected += units * rate.value
        self.low += (units if low is None else low) * rate.value
        self.high += (units if high is None else high) * rate.value
        self.deviation += units * rate.value * rate.spread
        self.by_basis[rate.basis] = self.by_basis.get(rate.basis, 0.0) + units * rate.value

    def take(self, other: "Sum") -> None:
        """Add another sum."""
        self.expected += other.expected
        self.low += other.low
        self.high += other.high
        self.deviation += other.deviation
        for basis, value in other.by_basis.items():
            self.by_basis[basis] = self.by_basis.get(basis, 0.0) + value

    @property
    def basis(self) -> Basis:
        """What a good part of it rests on, a quarter: of short jobs most is constants. The rest widens the interval."""
        whole = sum(self.by_basis.values()) or 1.0
        seen = self.by_basis.get("measured", 0.0) + self.by_basis.get("history", 0.0)
        if seen < whole / 4:
            return "assumed"
        return "measured" if self.by_basis.get("measured", 0.0) > seen / 2 else "history"


def parts(work: Work, rates: Rates, device: Device) -> dict[StepName, Sum]:
    """Seconds of every step."""
    return _Reckoner(work, rates, device).parts()


def course(work: Work) -> Course | None:
    """The training by gradient descent that the job contains, if there is one."""
    method = work.method
    if isinstance(method, FineTune):
        return course_of(method, work.resolved, modality=work.modality)
    if isinstance(method, DeepAdaptation):
        return adapting_course(method, work.resolved, scratch=from_scratch(method, work), alone=work.alone)
    if isinstance(method, Auto) and not work.target and (method.arms == "auto" or set(method.arms) - {"linear_probe"}):
        return course_of(FineTune(), work.resolved, modality=work.modality)
    return None


def kind_of_end(found: Course | None, work: Work) -> str:
    """What is measured and exported in the end: a `network` that was trained, or the `frozen` one with a head."""
    if isinstance(work.method, MetaLearning):
        return "frozen" if episodes.kind(work) == "features" else "network"
    return "network" if found is not None and found.network else "frozen"


def solver(options: LinearProbe, work: Work) -> Literal["ridge", "lbfgs"]:
    """What `auto` becomes, as `worker.engine.methods.linear_probe.settled` has it; a test holds the two together."""
    if options.solver != "auto":
        return options.solver
    logistic = work.modality == "tabular" and work.problem == "classification"
    return "lbfgs" if logistic and work.train + work.validation <= _LOGISTIC_ROWS else "ridge"


def setup_variant(found: Course) -> str:
    """What comes before training: a head's own, or a network's with a probe for its head or without."""
    return "head" if not found.network else "probe" if found.head_start else "bare"


def way(work: Work, found: Course | None) -> str:
    """By what jobs are alike in whether training comes to something: the method, and whether it starts from nothing."""
    return f"{work.method.name}+scratch" if found is not None and found.scratch else work.method.name


def fits_probe(work: Work) -> bool:
    """Whether a job that leaves the network as it is fits a probe to be compared with; a probe need not."""
    return isinstance(work.method, FineTune) and not work.target and work.baselines != "none"


class _Reckoner:
    def __init__(self, work: Work, rates: Rates, device: Device) -> None:
        self.work, self.rates, self.device = work, rates, device
        self.course = course(work)
        self.end = kind_of_end(self.course, work)

    def find(self, kind: str, otherwise: Rate, variant: str = "") -> Rate:
        """The figure for this network and data, or for other networks where it is about the same, or what is assumed.

        What nothing has been seen of as often as it is needed is wider.
        """
        work = self.work
        own = self.rates.find(kind, network=work.network, data=work.data, variant=variant)
        return own or self.rates.usual(kind, modality=work.modality, variant=variant) or otherwise

    def likely(self, kind: str) -> tuple[bool, bool]:
        """Whether training changes the network (`changed`), or is what is served (`served`); and whether that is sure.

        By the last jobs of the method on these data, or on others. A head start is hardly beaten in a few steps; that
        the network has changed by then costs little, and is the likelier case.
        """
        work, found = self.work, self.course
        variant = way(work, found)
        own = self.rates.values(kind, network=work.network, data=work.data, variant=variant)[-3:]
        if own:
            share = sum(own) / len(own)
            return share >= 0.5, share in {0, 1} and len(own) > 1
        if found is not None and found.scratch:  # features of a network that learnt something already are better
            bare = work.card is None or work.card.weights.source == "none"
            return kind == "changed" or bare, kind == "changed"
        short = found is not None and found.head_start and found.steps(work.train) < _SOON
        if kind == "served" and short:
            return False, False
        seen = self.rates.usual(kind, modality=work.modality, variant=variant)
        return seen is None or seen.value >= 0.5, False

    def parts(self) -> dict[StepName, Sum]:
        work = self.work
        found: dict[StepName, Sum] = {"prepare": self.prepare()}
        if isinstance(work.method, RankBaseModels):
            found["compare"] = self.ranking()
            found["store"] = self.fixed("store", 0.1, "report")
            return found
        found["features"] = self.features()
        found["train"] = self.train()
        if not work.method.makes_model:
            found["store"] = self.fixed("store", 0.1, "report")
            return found
        found["compare"] = self.compare(found["train"])
        found["evaluate"] = self.per_item("evaluate", work.held_out, 2e-4, self.end)
        found["export"] = self.export()
        found["store"] = self.fixed("store", 0.15, self.end)
        return found

    def prepare(self) -> Sum:
        """Of a base model that is there for the first time it is found out what its weights are."""
        usual = self.find("start", assumed.rate(0.32 + 2e-5 * self.work.items))
        return _once(usual if self.work.graph_cached else self.find("start", usual, FIRST))

    def fixed(self, kind: str, otherwise: float, variant: str) -> Sum:
        total = Sum()
        total.add(1, self.find(kind, assumed.rate(otherwise), variant))
        return total

    def per_item(self, kind: str, items: int, otherwise: float, variant: str) -> Sum:
        total = Sum()
        total.add(items, self.find(kind, assumed.rate(otherwise), variant))
        return total

    def parted(self, kind: str, usual: Usual, variant: str) -> Sum:
        """What is done once, and as much of the rest as is assumed, times what others took of that."""
        total = Sum()
        total.add(1, self.find(f"{kind}.once", assumed.rate(usual.once), variant))
        total.add(usual.growing, self.find(f"{kind}.pace", assumed.rate(1.0), variant))
        return total

    def features(self) -> Sum:
        total = Sum()
        if self.course is not None and not self.course.features and self.work.baselines == "none":
            return total
        total.take(self.graph())
        total.add(self.work.fresh, self.find("embed", assumed.embed(self.work, self.device)))
        return total

    def graph(self) -> Sum:
        total = Sum()
        needed = self.work.fresh > 0 or self.end == "frozen"
        if needed and not self.work.graph_cached and self.device.kind == "cpu":
            total.add(1, self.find("graph", assumed.graph(self.work)))
        return total

    def train(self) -> Sum:
        work, total = self.work, Sum()
        if isinstance(work.method, LinearProbe):
            return self.probe(work.method)
        if work.target and self.course is None:
            return self.adapt()
        if isinstance(work.method, MetaLearning):
            return self.per_item("meta", episodes.passes(work), episodes.seconds(work, self.device), work.method.name)
        if isinstance(work.method, Auto):
            total.take(self.probe(LinearProbe()))
            if self.course is not None:
                total.take(self.raced(self.descent(self.course)))
        elif self.course is not None:
            total.take(self.descent(self.course))
        return total

    def probe(self, options: LinearProbe) -> Sum:
        usual = assumed.fit(self.work, solver(options, self.work), self.work.train + self.work.validation)
        return self.parted("fit", usual, solver(options, self.work))

    def adapt(self) -> Sum:
        """Adaptation on frozen features: one method, or a race of several; a race ends when its time is up."""
        work, total = self.work, Sum()
        race = isinstance(work.method, Auto)
        otherwise = (4e-5 if race else 4e-6) * work.width
        total.take(self.per_item("fit", work.learnt, otherwise, work.method.name))
        if race:
            total.expected, total.high = min(total.expected, self.limit()), min(total.high, self.limit())
            total.low = min(total.low, self.limit())
        return total

    def limit(self) -> float:
        """Seconds that a race may take."""
        method, work = self.work.method, self.work
        assert isinstance(method, Auto)
        if method.seconds != "auto":
            return float(method.seconds)
        return 0.8 * work.max_seconds if work.max_seconds else RACE_SECONDS

    def descent(self, found: Course) -> Sum:
        """Training by gradient descent: head, first pass over the data, then epochs until it ends by itself."""
        work, total = self.work, Sum()
        decode = assumed.decode(work, self.device)
        total.take(self.setup(found))
        share = self.rates.find("epochs", variant=work.method.name)
        expected = found.epochs if share is None else max(found.shortest, share.value * found.epochs)
        step = self.step(found)
        total.add(work.train * expected, step, low=work.train * found.shortest, high=work.train * float(found.epochs))
        if found.network:
            total.add(work.train, self.find("first", decode, found.style))
        passes = (2.0 if found.averaged else 1.0) * work.checked
        checks = self.find("validate", self.validate(found), "head" if not found.network else "network")
        total.add(passes * expected, checks, low=passes * found.shortest, high=passes * float(found.epochs))
        total.add(work.validation, checks)  # of the state it starts with
        if not found.settled:
            total.low, total.high = 0.4 * total.low, 2.0 * total.high
        return total

    def setup(self, found: Course) -> Sum:
        """What comes before the first step: a probe for the head, the network on its device."""
        return self.parted("setup", assumed.setup(self.work, self.device, found), setup_variant(found))

    def validate(self, found: Course) -> Rate:
        return assumed.validate(self.work, self.device) if found.network else assumed.rate(1e-5)

    def step(self, found: Course) -> Rate:
        """Seconds for each item, from what was seen with other batches, or other augmentation, where these were not."""
        work = self.work
        near = self.rates.variants("step", network=work.network, data=work.data)
        alike = {name: rate for name, rate in near.items() if name.rpartition("|")[0] == found.style}
        other = {name: rate for name, rate in near.items() if found.like(name)}
        for some in (alike, other):
            sizes = {int(name.rpartition("|")[2]): rate for name, rate in some.items() if rate.exact}
            if sizes:
                return _between(sizes, found.batch_size)
        if sizes := {int(name.rpartition("|")[2]): rate for name, rate in (alike or other).items()}:
            return _between(sizes, found.batch_size)
        usual = None if found.network else self.rates.usual("step", modality=work.modality, variant=found.variant)
        return usual or assumed.step(work, self.device, found)

    def raced(self, total: Sum) -> Sum:
        """A race ends when its time is up; where the probe suffices, training is not run at all."""
        method, work = self.work.method, self.work
        assert isinstance(method, Auto)
        limit = self.limit()
        total.expected, total.high = min(total.expected, limit), min(total.high, limit)
        total.low = min(total.low, limit)
        if method.arms == "auto":
            seen = self.rates.values("raced", network=work.network, data=work.data)
            share = sum(seen[-3:]) / len(seen[-3:]) if seen else _RACED
            total.expected, total.low = share * total.expected, total.low if share == 1 else 0.0
        return total

    def compare(self, trained: Sum) -> Sum:
        """Answers of the method's own model, baselines, and a network from scratch where one is wanted."""
        work, total = self.work, Sum()
        if self.end == "network" and self.likely("changed")[0]:
            own = self.find("validate", assumed.validate(work, self.device), "network")
            decode = self.find("first", assumed.decode(work, self.device), self.course.style if self.course else "")
            otherwise = own.value + (decode.value if decode.basis == "assumed" else 0.0)
            seen = work.validation + work.held_out
            total.take(self.per_item("compare", seen, otherwise, f"network+{work.baselines}"))
        elif fits_probe(work):
            total.take(self.parted("compare", assumed.compare(work), f"frozen+{work.baselines}"))
        else:
            seen = work.train + work.validation + work.held_out
            total.take(self.per_item("compare", seen, assumed.answer(work), f"frozen+{work.baselines}"))
        if self.from_scratch(trained):
            known = self.rates.find("scratch", network=work.network, data=work.data)
            total.take(self.scratch() if known is None or not known.exact else _once(known))
        return total

    def from_scratch(self, trained: Sum) -> bool:
        """Whether the job also trains the network from random weights."""
        work = self.work
        tuned = isinstance(work.method, FineTune)
        bare = work.card is not None and work.card.weights.source == "none"
        if work.baselines == "none" or (self.course is not None and self.course.scratch) or (tuned and bare):
            return False
        if work.baselines == "all" or (work.modality == "tabular" and work.train <= _ROWS):
            return True
        return tuned and work.max_seconds is not None and 1.5 * trained.expected <= 0.8 * work.max_seconds

    def scratch(self) -> Sum:
        own = self.work.method if isinstance(self.work.method, FineTune) else FineTune()
        options = own.model_copy(update={"init": "scratch", "freeze": "none"})
        return self.descent(course_of(options, self.work.scratch, modality=self.work.modality))

    def export(self) -> Sum:
        """A trained network is exported anew, unless what is served in the end is a head on the frozen one."""
        total, joined = Sum(), self.parted("export", assumed.join(self.work), "frozen")
        if self.end == "frozen":
            return joined
        graph = self.find("graph", assumed.graph(self.work))
        whole = self.find("export", replace(graph, value=1.2 * graph.value), "network")
        served, sure = self.likely("served")
        total.add(int(served), whole, low=int(served and sure), high=int(served or not sure))
        head = Rate(joined.expected, joined.deviation / max(joined.expected, 1e-6), joined.basis)
        total.add(int(not served), head, low=int(not (served and sure)), high=int(not served and sure))
        return total

    def ranking(self) -> Sum:
        """Every candidate is embedded, as far as it is not yet, and fitted a head."""
        work, total, method = self.work, Sum(), self.work.method
        assert isinstance(method, RankBaseModels)
        items = min(work.items, 2 * method.max_items)
        for card in work.candidates:
            one = replace(work, card=card, network=card.id)
            embed = self.rates.find("embed", network=card.id, data=work.data) or assumed.embed(one, self.device)
            graph = self.rates.find("graph", network=card.id) or assumed.graph(one)
            total.add(items, embed, low=0)
            total.add(1, graph, low=0)
            total.add(min(work.train, method.max_items), assumed.rate(4e-6 * one.width))
        if method.max_seconds is not None:
            total.expected, total.high = min(total.expected, method.max_seconds), min(total.high, method.max_seconds)
        return total


def _between(sizes: dict[int, Rate], size: int) -> Rate:
    """Seconds for each item with batches of a size that was not seen: a step costs something, and each item of it."""
    near = sorted(sizes, key=lambda seen: abs(math.log(seen / size)))[:2]
    rate = sizes[near[0]]
    value = rate.value
    if len(near) == 2:
        (first, one), (second, two) = ((seen, sizes[seen].value) for seen in near)
        fixed = max(0.0, (one - two) / (1 / first - 1 / second))
        value = max(0.3 * rate.value, rate.value + fixed * (1 / size - 1 / near[0]))
    return replace(rate, value=value, spread=rate.spread + 0.15 * abs(math.log(near[0] / size)), exact=False)


def _once(rate: Rate) -> Sum:
    total = Sum()
    total.add(1, rate)
    return total
