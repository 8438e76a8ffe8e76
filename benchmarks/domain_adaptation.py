"""Adapting to a new domain without its labels: photos, counts of visual words, digits, reviews; the guard; the tests.

`--data DIR` holds the data sets. `--part` takes one table, `--methods` some methods. All figures are chosen without
labels of the target: these only measure the result. A pair's figure is the accuracy on all items of the target; next
to the method's own stands what the job serves after its guard.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks import domain_digits, domain_guard, domain_halves, domain_parts, domain_surf, sets, shift_power
from benchmarks.common import Table, parser
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS
from core.contract.verdicts import Arm
from worker.engine import run
from worker.engine.door import DataRef, Inputs, Places, Result

JOB, MODEL = "job_" + "0" * 26, "mdl_" + "0" * 26
LOSS = 0.005  # what a pair may lie below its source-only
FROZEN = (
    "kmm",
    "kliep",
    "domain_weights",
    "label_shift",
    "subspace_alignment",
    "coral",
    "tca",
    "jda",
    "meda",
    "linear_ot",
    "sinkhorn_ot",
    "prototype_self_training",
    "selective_pseudo_labels",
    "gan",
    "dan",
    "jan",
    "deep_coral",
    "dann",
    "cdan",
    "mcc",
    "shot",
)


@dataclass(frozen=True)
class Outcome:
    """One job."""

    own: float
    """Accuracy of what the method made."""
    served: float
    source_only: float
    verdict: str
    seconds: float


def adapt(method: Any, source: DataRef, target: DataRef, scratch: Path, seed: int = 0) -> Outcome:
    """One job, its features cached before; labels of the target only measure."""
    begun = time.perf_counter()
    result = job(method, source, target, scratch, seed)
    return _outcome(result, time.perf_counter() - begun)


def job(
    method: Any, source: DataRef, target: DataRef, scratch: Path, seed: int = 0, evaluation: DataRef | None = None
) -> Result:
    """One job through the engine's door; it is measured on the items of the target, or on those for `evaluation`."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    measured = None if evaluation is None else evaluation.id
    spec = JobSpec(source=source.id, target=target.id, evaluation=measured, method=method, seed=seed)
    result = run(
        spec,
        Inputs(JOB, MODEL, source, evaluation=evaluation, target=target),
        Places(out, scratch / "cache"),
        sink=lambda _kind, _data: None,
        should_stop=lambda: "go_on",
    )
    shutil.rmtree(out)
    return result


def _outcome(result: Result, seconds: float) -> Outcome:
    arms = [arm for arm in result.report.arms if arm.state == "measured"]
    judgement = result.report.judgement
    assert judgement is not None
    return Outcome(
        _value(next(arm for arm in arms if arm.role == "method")),
        _value(next(arm for arm in arms if arm.served)),
        _value(next(arm for arm in arms if arm.name == "source_only")),
        judgement.guard.verdict if judgement.guard else judgement.verdict,
        seconds,
    )


def _value(arm: Arm) -> float:
    assert arm.value is not None
    return arm.value


def pairs(table: Table, title: str, refs: dict[str, DataRef], scratch: Path, methods: list[str], goal: str) -> None:
    """Every method on all ordered pairs of domains, `auto` last."""
    for name in methods:
        found: dict[tuple[str, str], Outcome] = {}
        for one, other in permutations(refs, 2):
            found[one, other] = adapt(METHODS[name](), refs[one], refs[other], scratch)
        _told(table, title, name, found, goal if name == "auto" else "")


def _told(table: Table, title: str, name: str, found: dict[tuple[str, str], Outcome], goal: str) -> None:
    outcomes = list(found.values())
    if name == "auto":
        for (one, other), outcome in found.items():
            table.add(f"{title}, {one} -> {other}, source-only", 100 * outcome.source_only, "", "%")
            table.add(f"{title}, {one} -> {other}, auto", 100 * outcome.served, "", "%")
        table.add(f"{title}, source-only, mean", 100 * statistics.mean(one.source_only for one in outcomes), "", "%")
    table.add(f"{title}, {name}, mean", 100 * statistics.mean(one.own for one in outcomes), "", "%")
    table.add(f"{title}, {name}, served, mean", 100 * statistics.mean(one.served for one in outcomes), goal, "%")
    below = sum(one.served < one.source_only - LOSS for one in outcomes)
    table.add(f"{title}, {name}, pairs served below source-only", below, "<= 0" if name == "auto" else "", "pairs")
    limit = "<= 10" if name == "auto" and "photos" in title else ""
    table.add(f"{title}, {name}, seconds a pair", statistics.median(one.seconds for one in outcomes), limit, "s")


def photos(table: Table, data: Path, scratch: Path, methods: list[str], *, quick: bool) -> None:
    """Office-Caltech10, EfficientNet-Lite0."""
    domains = sets.DOMAINS[2:] if quick else sets.DOMAINS
    refs = {name: sets.office(data, name).refer(scratch) for name in domains}
    pairs(table, "photos", refs, scratch, methods, ">= 97.5" if not quick else "")


def reviews(table: Table, data: Path, scratch: Path, methods: list[str], *, quick: bool) -> None:
    """Four kinds of products, MiniLM."""
    kinds = sets.REVIEWS[:2] if quick else sets.REVIEWS
    refs = {name: sets.reviews(data, name).refer(scratch) for name in kinds}
    pairs(table, "reviews", refs, scratch, methods, "")


Part = Callable[[Table, Path, Path, list[str], bool], None]


def _parts() -> dict[str, Part]:
    return {
        "photos": lambda table, data, scratch, methods, quick: photos(table, data, scratch, methods, quick=quick),
        "reviews": lambda table, data, scratch, methods, quick: reviews(table, data, scratch, methods, quick=quick),
    }


def _others() -> Iterator[tuple[str, Callable[..., None]]]:
    """Tables that are modules of their own."""
    yield "surf", domain_surf.measure
    yield "digits", domain_digits.measure
    yield "halves", domain_halves.measure
    yield "guard", domain_guard.measure
    yield "shift", shift_power.measure
    yield "scale", domain_parts.measure


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "")
    parts, others = _parts(), dict(_others())
    options.add_argument("--part", choices=["all", *parts, *others], default="all")
    options.add_argument("--methods", default=",".join([*FROZEN, "auto"]), help="methods for photos and reviews")
    chosen = options.parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("domain adaptation")
    methods = [name for name in chosen.methods.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        for name, part in parts.items():
            if chosen.part in {"all", name}:
                part(table, chosen.data, Path(folder), methods, chosen.quick)
    for name, measure in others.items():
        if chosen.part in {"all", name}:
            measure(table, chosen.data, quick=chosen.quick)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
