"""Forty jobs whose verdict is known beforehand, of every modality and problem, and what each is made of.

`helping()`: twenty in which the transfer helps by construction. A probe is compared with class means where the classes
are two groups of kinds each, which one mean cannot stand for, and with a constant answer where there are no such means
(tags, figures); features of a network trained for photographs are tuned to digits, those of an encoder that knows what
reviews are about to whether they are good; a small table profits from a network that has learnt the hidden figures from
a large one with overlapping columns. `hopeless()`: twenty in which it cannot. The labels are shuffled, the base has
random weights or has learnt something else, or the training items were prepared otherwise than the held-out ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import verdict_images, verdict_tables, verdict_texts
from benchmarks.sets import Upload
from core.contract.jobs import Baselines
from core.contract.methods import FineTune, LinearProbe

Build = Callable[[Path, np.random.Generator], Upload]
PROBE = LinearProbe()
TUNED = FineTune(
    epochs=4, batch_size=16, backbone_lr=1e-3, augmentation="light", horizontal_flip=False, early_stop=None
)
ENCODER = FineTune(epochs=3, batch_size=16, early_stop=None)
SCRATCH = FineTune(init="scratch", epochs=1, augmentation="none")
TABLE = FineTune(epochs=40, batch_size=64, early_stop=None)


@dataclass(frozen=True)
class Made:
    """A job made for the purpose."""

    kind: str
    helps: bool
    method: Any
    build: Build
    seed: int
    parent: Build | None = None
    """What the model it starts from has learnt from, by `TABLE`."""
    base_model: str | None = None
    baselines: Baselines = "quick"

    def upload(self, data: Path) -> Upload:
        """Its data set."""
        return self._named(self.build(data, np.random.default_rng(self.seed)), "data")

    def former(self, data: Path) -> Upload | None:
        """The data set of the model that it starts from."""
        return (
            None if self.parent is None else self._named(self.parent(data, np.random.default_rng(self.seed)), "parent")
        )

    def _named(self, upload: Upload, role: str) -> Upload:
        return Upload(f"{self.kind} {self.seed} {role}", upload.modality, upload.suffix, upload.data)


def helping() -> Iterator[Made]:
    """Twenty."""
    images, tables, texts = verdict_images, verdict_tables, verdict_texts

    def made(kind: str, method: Any, *builds: Build, **more: Any) -> Iterator[Made]:
        for number, build in enumerate(builds):
            yield Made(kind, True, method, build, number, **more)

    office = [partial(images.grouped_office, domain=domain) for domain in ("amazon", "caltech10")]
    digits = [partial(images.digits, collection=name) for name in ("mnist", "usps")]
    pairs = [partial(images.pairs, collection=name) for name in ("mnist", "usps")]
    angles = [partial(images.angles, collection=name) for name in ("mnist", "usps")]
    yield from made("photos in two groups of kinds, probe", PROBE, *office)
    yield from made("digits, probe", PROBE, *digits)
    yield from made("odd and even digits, probe", PROBE, partial(images.parity, collection="mnist"))
    yield from made("two digits in one image, probe", PROBE, *pairs)
    yield from made("by how much a digit is turned, probe", PROBE, *angles)
    many = {"train": images.MANY, "held_out": images.MANY}
    tuned = [partial(images.digits, collection=name, **many) for name in ("mnist", "usps")]
    yield from made("digits, fine-tuned photo network", TUNED, *tuned)
    for problem, count in (("classification", 2), ("regression", 1), ("multi_label", 1)):
        yield from made(
            f"small table, taught by a large one, {problem}",
            PROBE,
            *[partial(tables.small, problem=problem)] * count,
            parent=partial(tables.large, problem=problem),
        )
    yield from made("a table's curved function, network", TABLE, tables.friedman, tables.products)
    yield from made("tags of reviews, probe", PROBE, *[texts.tagged] * 2)
    yield from made("good and bad reviews, fine-tuned encoder", ENCODER, texts.sentiment)


def hopeless() -> Iterator[Made]:
    """Twenty."""
    images, tables, texts = verdict_images, verdict_tables, verdict_texts
    number = iter(range(100, 200))

    def made(kind: str, method: Any, *builds: Build, **more: Any) -> Iterator[Made]:
        for build in builds:
            yield Made(kind, False, method, build, next(number), **more)

    digits = {name: partial(images.digits, collection=name) for name in ("mnist", "usps")}
    shuffled, broken = images.shuffled, images.broken
    yield from made("shuffled labels, probe", PROBE, *(shuffled(build) for build in digits.values()))
    yield from made("shuffled labels, logistic regression", LinearProbe(solver="lbfgs"), shuffled(digits["mnist"]))
    yield from made("shuffled labels, several of an image", PROBE, shuffled(partial(images.pairs, collection="mnist")))
    yield from made("shuffled labels, angles", PROBE, shuffled(partial(images.angles, collection="usps")))
    yield from made("shuffled labels, diabetes", PROBE, tables.shuffled_diabetes)
    yield from made("shuffled labels, table", TABLE, *(partial(tables.shuffled, problem=p) for p in tables.CLASSES))
    yield from made("shuffled labels, texts", PROBE, *[texts.shuffled] * 2)
    few = [partial(images.digits, collection=name, train=150) for name in ("mnist", "usps")]
    yield from made("random weights, one epoch", SCRATCH, *few)
    yield from made("training pixels mixed up", PROBE, *(broken(build, images.mixed) for build in digits.values()))
    yield from made("training images turned", PROBE, broken(digits["mnist"], images.turned))
    yield from made("training images inverted", PROBE, broken(digits["usps"], images.inverted))
    noise, other = partial(tables.shuffled, problem="classification"), tables.unrelated
    same = partial(tables.plain, problem="classification")
    yield from made("table, a parent of random labels", TABLE, same, parent=noise, baselines="all")
    yield from made("table, a parent of another task", TABLE, same, parent=other, baselines="all")
    for problem in ("classification", "regression"):
        crossed, plain = partial(tables.crossed, problem=problem), partial(tables.plain, problem=problem)
        yield from made(f"table, columns crossed in the parent, {problem}", TABLE, plain, parent=crossed)


def forty(*, quick: bool) -> Iterator[Made]:
    """All of them; with `quick` a handful, each of another kind and none that is slow."""
    jobs = [*helping(), *hopeless()]
    handful = {2, 5, 11, 18, 20, 24, 31, 38}
    return (job for number, job in enumerate(jobs) if not quick or number in handful)
