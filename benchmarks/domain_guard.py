"""The guard without labels: helpful and made-harmful jobs on real domains, judged by the very functions jobs use.

Helpful: photos, digits and domains whose features were moved on purpose, where the adapted classifier is better by over
half a point. Made harmful: other shares of the classes, classes missing from the target, an unrelated source, inverted
pictures or features turned over, shuffled features; those count of which the adapted classifier is worse by over half a
point, or worthless (under twice chance). Forty of each; the labels of the target only sort the jobs. Some 400 items a
domain: with fewer items the guard has it harder.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import sets
from benchmarks.common import Table, parser
from core.contract.methods import Coral, PrototypeSelfTraining, SelectivePseudoLabels
from core.contract.methods.linear_probe import LinearProbe
from worker.engine import devices
from worker.engine.adaptation import guard, runners
from worker.engine.adaptation.evidence import Evidence
from worker.engine.backbones import open_base
from worker.engine.cache import CacheFolder
from worker.engine.data import read, select
from worker.engine.door import Inputs
from worker.engine.frozen import FrozenFeatures
from worker.engine.methods import coral, linear_probe, prototype_self_training, selective_pseudo_labels
from worker.engine.methods.adapting import Adapted, Domains
from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.steps import Steps, Wishes

EACH, QUICK_EACH = 40, 6
ITEMS = 400
DIGITS = 1500
HELPS = 0.005
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Fit = Callable[[Domains], Adapted]


@dataclass(frozen=True)
class Domain:
    """Features (n, D) of the frozen base model, and classes (n,)."""

    x: Floats
    y: Ints


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


FITS: dict[str, Fit] = {
    "selective_pseudo_labels": lambda d: selective_pseudo_labels.fit(d, SelectivePseudoLabels(), _rng()),
    "prototype_self_training": lambda d: prototype_self_training.fit(d, PrototypeSelfTraining(), _rng()),
    "centred_probe": lambda d: runners.centred(d, _rng(), "image"),
    "coral": lambda d: coral.fit(d, Coral(), _rng()),
}


@dataclass(frozen=True)
class Case:
    """One job: a source, a target, a method."""

    name: str
    source: Domain
    target: Domain
    method: str


@dataclass(frozen=True)
class Judged:
    """What the guard said, and the truth."""

    case: Case
    before: float
    after: float
    decision: guard.Decision

    @property
    def helps(self) -> bool:
        """By the labels."""
        return self.after > self.before + HELPS

    @property
    def harms(self) -> bool:
        """It is worse, or worthless."""
        return self.after < self.before - HELPS or self.after < 2 / len(np.unique(self.case.source.y))


def judged(case: Case, seed: int) -> Judged:
    """Fit and decide as a job does: honest source answers come from a fit without a fifth of the source."""
    rng = np.random.default_rng(seed)
    (xs, ys), (xt, yt) = ((d.x, d.y) for d in (some(case.source, rng), some(case.target, rng)))
    classes = int(case.source.y.max()) + 1
    probe = linear_probe.fit(xs, ys, classes, LinearProbe(), rng=rng)
    found = Domains(xs, ys, xt, np.full(len(xt), -1), classes, [], [])
    adapted, honest = FITS[case.method](found), _honest(found, case.method, rng)
    evidence = Evidence(
        xs,
        ys,
        xt,
        probe.out_of_fold,
        probe.head(xt),
        honest,
        adapted.head(xt),
        adapted.source_head.represent(xs),
        adapted.head.represent(xt),
        found.audit,
    )
    right = [float((logits.argmax(axis=1) == yt).mean()) for logits in (evidence.target_before, evidence.target_after)]
    return Judged(case, right[0], right[1], guard.decide(evidence, rng))


def _honest(found: Domains, method: str, rng: np.random.Generator) -> Floats:
    kept = stratified_folds(found.ys, 5, rng) != 0
    logits = np.full((len(found.ys), found.classes), np.nan, dtype=np.float32)
    part = Domains(found.xs[kept], found.ys[kept], found.xt, found.audit, found.classes, [], [])
    logits[~kept] = FITS[method](part).source_head(found.xs[~kept])
    return logits


def some(domain: Domain, rng: np.random.Generator) -> Domain:
    kept = rng.permutation(len(domain.y))[:ITEMS]
    return Domain(domain.x[kept], domain.y[kept])


@dataclass(frozen=True)
class Pool:
    """All domains that jobs are made of."""

    photos: dict[str, Domain]
    digits: dict[str, Domain]
    inverted: dict[str, Domain]
    """The digits in pictures whose colours are inverted."""

    def pairs(self) -> list[tuple[str, Domain, Domain]]:
        """Source and target, by name."""
        return [
            (f"{a} -> {b}", kind[a], kind[b]) for kind in (self.photos, self.digits) for a, b in permutations(kind, 2)
        ]


def helpful(pool: Pool) -> Iterator[Case]:
    """Real pairs first, then such whose target was moved: what centring and pseudo-labels are made for."""
    for name, source, target in pool.pairs():
        for method in ("selective_pseudo_labels", "prototype_self_training"):
            yield Case(name, source, target, method)
    for seed, (name, source, target) in enumerate(pool.pairs()):
        moved = shifted(target, np.random.default_rng(seed))
        for method in ("centred_probe", "selective_pseudo_labels"):
            yield Case(f"{name}, moved", source, moved, method)


def harmful(pool: Pool) -> Iterator[Case]:
    """Every kind in turn, each with every method in turn."""
    pairs, methods = cycle(pool.pairs()), cycle(FITS)
    for seed in range(10_000):
        rng = np.random.default_rng(seed)
        for kind, spoil in _SPOILT.items():
            name, source, target = next(pairs)
            bad = spoil(pool, source, target, rng)
            if bad is not None and len(np.unique(bad[0].y)) == len(np.unique(source.y)) and len(bad[1].y) >= 20:
                yield Case(f"{name}, {kind}", bad[0], bad[1], next(methods))


Spoil = Callable[[Pool, Domain, Domain, np.random.Generator], tuple[Domain, Domain] | None]


def _label_shift(_pool: Pool, source: Domain, target: Domain, rng: np.random.Generator) -> tuple[Domain, Domain]:
    shares = rng.dirichlet(np.full(10, 0.15))
    wanted = rng.choice(10, size=ITEMS, p=shares)
    drawn = [rng.choice(np.flatnonzero(target.y == c), size=int((wanted == c).sum())) for c in range(10)]
    kept = np.unique(np.concatenate(drawn))
    return source, Domain(target.x[kept], target.y[kept])


def _partial(_pool: Pool, source: Domain, target: Domain, rng: np.random.Generator) -> tuple[Domain, Domain]:
    kept = np.isin(target.y, rng.permutation(10)[:3])
    return source, Domain(target.x[kept], target.y[kept])


def _unrelated(pool: Pool, _source: Domain, target: Domain, rng: np.random.Generator) -> tuple[Domain, Domain]:
    digits = any(target is one for one in pool.digits.values())
    other = pool.photos if digits else pool.digits
    return other[str(rng.permutation(sorted(other))[0])], target


def _inverted(pool: Pool, source: Domain, target: Domain, _rng: np.random.Generator) -> tuple[Domain, Domain]:
    """Inverted pictures of digits; features turned over about their mean elsewhere."""
    for name, domain in pool.digits.items():
        if target is domain:
            return source, pool.inverted[name]
    return source, Domain(2 * target.x.mean(axis=0) - target.x, target.y)


def _shuffled(_pool: Pool, source: Domain, target: Domain, rng: np.random.Generator) -> tuple[Domain, Domain]:
    """Columns change places; every second time each one's values do, too, and nothing of a class is left."""
    if rng.random() < 0.5:
        return source, Domain(rng.permuted(target.x, axis=0), target.y)
    return source, Domain(target.x[:, rng.permutation(target.x.shape[1])], target.y)


_SPOILT: dict[str, Spoil] = {
    "label shift": _label_shift,
    "unrelated source": _unrelated,
    "partial label set": _partial,
    "inverted": _inverted,
    "shuffled features": _shuffled,
}


def shifted(target: Domain, rng: np.random.Generator) -> Domain:
    """All items by one step, as far as items lie from their mean; then a step more in some directions."""
    spread = target.x.std(axis=0)
    step = rng.normal(size=target.x.shape[1]) * spread
    return Domain((target.x + step).astype(np.float32), target.y)


def pool(data: Path, scratch: Path, *, quick: bool) -> Pool:
    """Embed all that is needed."""
    names = sets.DOMAINS[2:] if quick else sets.DOMAINS
    photos = {name: features(sets.office(data, name), scratch) for name in names}
    counts = DIGITS if not quick else 300
    drawn = {"mnist": sets.mnist(data, "train"), "usps": sets.usps(data)}
    packed = {
        (name, inverted): _digits(pixels[:counts], labels[:counts], name, inverted=inverted)
        for name, (pixels, labels) in drawn.items()
        for inverted in (False, True)
    }
    found = {key: features(upload, scratch) for key, upload in packed.items()}
    return Pool(photos, *({name: found[name, inverted] for name in drawn} for inverted in (False, True)))


def _digits(pixels: NDArray[np.uint8], labels: Ints, name: str, *, inverted: bool) -> sets.Upload:
    shown = 255 - pixels if inverted else pixels
    files = {f"{labels[i]}/{i:05}.png": sets.png(shown[i]) for i in range(len(labels))}
    return sets.Upload(f"{name} {len(labels)} {inverted}", "image", ".zip", sets.pack(files))


def features(upload: sets.Upload, scratch: Path) -> Domain:
    """All items of a data set through the default base model, as a job embeds them."""
    reference = upload.refer(scratch)
    data = read(Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, reference), measured=False)
    store = CacheFolder(scratch / "cache", 10 * 1024**3, features="fp32")
    base = open_base(
        "efficientnet_lite0", weights_dir=None, pretrained=True, seed=0, parent=None, cache=store, table=None
    )
    steps = Steps(lambda _kind, _data: None, {"prepare": 1, "features": 1})
    frozen = FrozenFeatures(
        base,
        store,
        device=devices.choose("cpu"),
        threads=devices.use_threads(0),
        steps=steps,
        wishes=Wishes(lambda: "go_on"),
    )
    items, _ = select(data.collections[0], ("train", "validation", "test"), data.classes)
    x = frozen(items)
    data.close()
    return Domain(x, items.labels.astype(np.int64))


def collect(cases: Iterator[Case], wanted: Callable[[Judged], bool], count: int) -> list[Judged]:
    """The first `count` jobs that are what they were made to be."""
    seen = (judged(case, number) for number, case in enumerate(cases))
    return list(islice((one for one in seen if wanted(one)), count))


def report(table: Table, good: list[Judged], bad: list[Judged]) -> None:
    """Add the figures, and tell what went wrong."""
    wrong = [one for one in good if not one.decision.accept] + [one for one in bad if one.decision.accept]
    for one in wrong:
        name = f"{one.case.method}: {one.case.name}"
        table.add(f"  {name}, right before and after: {one.before:.3f},", one.after)
        print("      ", *one.decision.reasons, flush=True)
    for kind in _SPOILT:
        own = [one for one in bad if one.case.name.endswith(kind)]
        if own:
            table.add(f"refused, {kind} ({len(own)} jobs)", float(np.mean([not one.decision.accept for one in own])))
    table.add(f"harmful jobs refused ({len(bad)})", float(np.mean([not one.decision.accept for one in bad])), ">= 0.95")
    refused = float(np.mean([not one.decision.accept for one in good]))
    table.add(f"helpful jobs refused ({len(good)})", refused, "<= 0.1")
    published = [one for one in [*good, *bad] if one.decision.accept]
    negative = [one for one in published if one.after < one.before - HELPS]
    share = len(negative) / max(1, len(published))
    table.add(f"negative transfer among published models ({len(published)})", share, "<= 0.02")
    confidence = [one.decision.confidence for one in published]
    table.add("mean confidence of what is published", float(np.mean(confidence)) if confidence else float("nan"))


def measure(table: Table, data: Path, *, quick: bool = False) -> None:
    """Embed, make the jobs, judge them."""
    with tempfile.TemporaryDirectory(prefix="graft-guard-") as folder:
        found = pool(data, Path(folder), quick=quick)
    count = QUICK_EACH if quick else EACH
    good = collect(helpful(found), lambda one: one.helps, count)
    bad = collect(harmful(found), lambda one: one.harms, count)
    report(table, good, bad)


def main() -> int:
    """Exit status 1 if a goal was missed."""
    args = parser(__doc__).parse_args()
    table = Table("the guard without labels")
    measure(table, args.data, quick=args.quick)
    return table.finish(args.json)


if __name__ == "__main__":
    sys.exit(main())
