"""`shot` without source data, and the guard that has no source items to ask: the pairs and spoils of `domain_guard`.

A linear probe of the source is the model that is there; of the source nothing else is used. Helpful: photos and digits,
as they are and moved on purpose, where the adapted classifier is better by over half a point. Made harmful: as in
`domain_guard`; those count of which it is worse by over half a point, or worthless. The labels only sort the jobs. What
the guard asks in the place of the source, `agreement_alone`, was set with such jobs in view (other items of the same
domains), so the figures are somewhat optimistic.
"""

import math
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks import domain_guard as with_source
from benchmarks.common import Table, parser
from benchmarks.domain_guard import HELPS, Case, Floats, Judged, Pool
from core.catalogue import find
from core.contract.methods import LinearProbe, Shot
from worker.engine import loop
from worker.engine.adaptation import guard
from worker.engine.adaptation.evidence import Evidence
from worker.engine.calibration import fit_temperature
from worker.engine.checkpoint import Checkpoints
from worker.engine.feeds import feature_feed
from worker.engine.heads import Head
from worker.engine.methods import linear_probe
from worker.engine.methods.adapter import Adapter
from worker.engine.methods.deep import WARMUP, optimiser
from worker.engine.methods.domain_feeds import repeated
from worker.engine.methods.domain_score import unlabelled_loss
from worker.engine.methods.network import repeatable
from worker.engine.methods.settling import Facts, settle
from worker.engine.methods.shot import ShotTraining
from worker.engine.methods.worlds import Seen
from worker.engine.steps import Wishes

HARMFUL, QUICK = 40, 6
SEED = 1000  # other items than those that the limit was set on
CPU = torch.device("cpu")


class _World:
    """The target's features alone (`worker.engine.methods.worlds.World`, as far as `shot` looks at it)."""

    backbone = None

    def __init__(self, target: Floats) -> None:
        nothing = target[:0]
        self._seen = Seen(nothing, nothing, target)

    def embed(self) -> Seen:
        """The features."""
        return self._seen


def adapt(head: Head, target: Floats, classes: int, scratch: Path) -> Head:
    """What a job with the default options makes of a classifier on frozen features (m, D) of the target."""
    count = len(target)
    options = settle(Shot(), Facts(find("efficientnet_lite0"), False, "cpu", count, count, classes, alone=True))
    world, steps = _World(target), -(-count // options.batch_size)
    with repeatable(0, CPU):
        top = Adapter.of(head, target, np.random.default_rng(0))
        method = ShotTraining(world, top, options, Shot().pseudo_labels)  # type: ignore[arg-type]
        order = repeated(count, options.batch_size, steps, (0, 1))
        feed = feature_feed(target, np.full(count, -1), batch_size=options.batch_size, seed=0, device=CPU, order=order)

        def validate() -> loop.Validation:
            nothing, none = np.empty((0, classes), dtype=np.float32), np.empty(0, dtype=np.int64)
            return loop.Validation(unlabelled_loss(nothing, none, method.deployable()(target)), None)

        loop.train(
            method,
            feed,
            optimiser(method, options),
            loop.Plan(options.epochs, steps, WARMUP, None, ema=options.ema),
            device=CPU,
            validate=validate,
            wishes=Wishes(lambda: "go_on"),
            checkpoints=Checkpoints(scratch, lambda _kind, _data: None, {}, every=math.inf),
        )
    return method.deployable()


def judged(case: Case, seed: int, scratch: Path) -> Judged:
    """Adapt and decide as a job does."""
    rng = np.random.default_rng(seed)
    source, target = (with_source.some(domain, rng) for domain in (case.source, case.target))
    classes = int(case.source.y.max()) + 1
    probe = linear_probe.fit(source.x, source.y, classes, LinearProbe(), rng=rng)
    head = probe.head.rescaled(0.0, 1 / fit_temperature(probe.out_of_fold, source.y))
    before, after = head(target.x), adapt(head, target.x, classes, scratch)(target.x)
    nothing = before[:0]
    unknown = np.full(len(target.y), -1)
    found = Evidence(target.x[:0], target.y[:0], target.x, nothing, before, nothing, after, None, None, unknown)
    right = [float((logits.argmax(axis=1) == target.y).mean()) for logits in (before, after)]
    return Judged(case, right[0], right[1], guard.decide(found, rng))


def pairs(pool: Pool) -> list[Case]:
    """All pairs of domains as they are, then with the target moved."""
    plain = [Case(name, source, target, "shot") for name, source, target in pool.pairs()]
    moved = [
        Case(f"{one.name}, moved", one.source, with_source.shifted(one.target, np.random.default_rng(seed)), "shot")
        for seed, one in enumerate(plain)
    ]
    return [*plain, *moved]


def report(table: Table, good: list[Judged], bad: list[Judged]) -> None:
    """Add the figures, and tell what went wrong."""
    photos = [one for one in good if "moved" not in one.case.name and "mnist" not in one.case.name]
    for name, part in (("photos as they are", photos), ("all", good)):
        table.add(f"right before, {name} ({len(part)} pairs)", float(np.mean([one.before for one in part])))
        table.add(f"right after, {name}", float(np.mean([one.after for one in part])))
    helpful, harmful = [one for one in good if one.helps], [one for one in [*good, *bad] if one.harms]
    wrong = [one for one in helpful if not one.decision.accept] + [one for one in harmful if one.decision.accept]
    for one in wrong:
        table.add(f"  {one.case.name}, right before: {one.before:.3f}, after", one.after)
    refused = [float(np.mean([not one.decision.accept for one in part])) for part in (harmful, helpful)]
    table.add(f"harmful jobs refused ({len(harmful)})", refused[0], ">= 0.95")
    table.add(f"helpful jobs refused ({len(helpful)})", refused[1], "<= 0.1")
    published = [one for one in [*good, *bad] if one.decision.accept]
    worse = [one for one in published if one.after < one.before - HELPS]
    table.add(f"negative transfer among published models ({len(published)})", len(worse) / max(1, len(published)))
    table.add("share of them that help", float(np.mean([one.helps for one in published])))
    table.add("mean confidence of what is published", float(np.mean([one.decision.confidence for one in published])))


def measure(table: Table, data: Path, *, quick: bool = False) -> None:
    """Embed, make the jobs, judge them."""
    with tempfile.TemporaryDirectory(prefix="graft-alone-") as folder:
        scratch = Path(folder)
        pool = with_source.pool(data, scratch, quick=quick)
        spoilt = islice(with_source.harmful(pool), QUICK if quick else HARMFUL)
        good = [judged(case, SEED + number, scratch) for number, case in enumerate(pairs(pool))]
        bad = [judged(case, SEED + number, scratch) for number, case in enumerate(spoilt)]
    report(table, good, bad)


def main() -> int:
    """Exit status 1 if a goal was missed."""
    args = parser(__doc__).parse_args()
    table = Table("shot without source data, and its guard")
    measure(table, args.data, quick=args.quick)
    return table.finish(args.json)


if __name__ == "__main__":
    sys.exit(main())
