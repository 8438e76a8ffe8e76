"""Estimates against what jobs then cost: `python -m benchmarks.estimates [--data DIR] [--json FILE] [--quick]`.

A service of its own runs varied jobs one after the other; each is estimated by `dry_run` right before. What is asked:
nine tenths of the times within a fifth, nine tenths of the peaks of memory within 15 %, and no job that was admitted
runs out of memory. Run it on an idle machine: whatever else runs is part of what is timed.
"""

import math
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import sets
from benchmarks.common import Table, parser, service
from examples.demo import write_digits
from graft import Graft
from graft.types import Estimate, Job

_SECONDS, _MEMORY = 0.2, 0.15


@dataclass(frozen=True)
class Case:
    """One job."""

    data: str
    method: dict[str, Any]
    base_model: str | None = None

    @property
    def name(self) -> str:
        """What it is in a line."""
        options = " ".join(f"{name}={value}" for name, value in self.method.items() if name != "name")
        return f"{self.data} {self.method['name']} {self.base_model or ''} {options}".strip()


@dataclass(frozen=True)
class Outcome:
    """What was foretold of a job, and what came."""

    case: Case
    estimate: Estimate
    job: Job
    load: float
    """Processes that wanted a core in the last minute, its own included."""

    def actual(self, figure: str) -> float | None:
        """What the job came to; None where nothing was measured."""
        found = self.job.estimate
        value: float | None = None if found is None else getattr(found, figure).actual
        return value

    def error(self, figure: str) -> float | None:
        """Actual to expected, less one."""
        actual = self.actual(figure)
        expected: float = getattr(self.estimate, figure).expected
        return None if not actual else actual / expected - 1

    def covered(self, figure: str) -> bool | None:
        """Whether the interval held it."""
        actual, foretold = self.actual(figure), getattr(self.estimate, figure)
        return None if not actual else bool(foretold.low <= actual <= foretold.high)


def tune(**options: Any) -> dict[str, Any]:
    """A short training."""
    return {"name": "fine_tune", "epochs": 2, "early_stop": None, **options}


def quick() -> list[Case]:
    """Six jobs on digits."""
    probe = {"name": "linear_probe"}
    return [
        Case("digits", probe),
        Case("digits", {**probe, "solver": "lbfgs"}),
        Case("digits", tune(batch_size=16, freeze="all")),
        Case("digits", tune(epochs=1, batch_size=16, augmentation="light")),
        Case("digits", tune(epochs=2, batch_size=32, augmentation="light")),
        Case("digits", probe, "squeezenet1_1"),
    ]


def varied() -> list[Case]:
    """Thirty jobs: methods, base models, sizes of data and batches, photos, digits and texts."""
    probe, lbfgs = {"name": "linear_probe"}, {"name": "linear_probe", "solver": "lbfgs"}
    found = [Case(data, method) for data in ("hymenoptera", "dslr", "digits") for method in (probe, lbfgs)]
    found += [Case("hymenoptera", probe, name) for name in ("squeezenet1_1", "efficientnet_lite1")]
    found += [Case("dslr", probe, name) for name in ("squeezenet1_1", "efficientnet_lite2")]
    for data in ("hymenoptera", "dslr", "digits"):
        found += [Case(data, tune(batch_size=size, epochs=epochs)) for size, epochs in ((8, 1), (16, 2), (32, 2))]
        found.append(Case(data, tune(batch_size=16, freeze="all", augmentation="none", epochs=10)))
    found.append(Case("hymenoptera", tune(batch_size=16, epochs=1), "squeezenet1_1"))
    found.append(Case("dslr", {**tune(batch_size=16, epochs=1), "init": "scratch"}))
    found.append(Case("digits", tune(batch_size=64, epochs=1)))
    found += [Case("books", probe), Case("books", lbfgs), Case("books", tune(batch_size=8, epochs=1))]
    found += [Case("kitchen", probe), Case("kitchen", tune(batch_size=16, epochs=1, freeze="all"))]
    return found


def _other(data: Path, name: str) -> sets.Upload:
    return sets.office(data, name) if name in sets.DOMAINS else sets.reviews(data, name)


def upload(client: Graft, name: str, data: Path | None, scratch: Path) -> str:
    """The data set of that name, ready."""
    if name == "digits":
        path = write_digits(scratch)
    else:
        assert data is not None, "give --data"
        one = sets.bees(data) if name == "hymenoptera" else _other(data, name)
        path = scratch / f"{name}{one.suffix}"
        path.write_bytes(one.data)
    return client.datasets.wait(client.datasets.upload(path, name=name)).id


def run(client: Graft, case: Case, source: str) -> Outcome:
    """Estimate, launch, wait."""
    given: dict[str, Any] = {"method": case.method, "base_model": case.base_model}
    foretold = client.jobs.estimate(source, **given)
    job = client.jobs.wait(client.jobs.create(source, **given), raise_on_failure=False)
    outcome = Outcome(case, foretold.estimate, job, os.getloadavg()[0])
    said = [f"{figure} {error:+.1%}" if (error := outcome.error(figure)) is not None else "" for figure in _FIGURES]
    seconds = foretold.estimate.seconds
    print(
        f"     {case.name:<70} {seconds.expected:7.1f} s [{seconds.low:.1f}, {seconds.high:.1f}] "
        f"{foretold.estimate.basis}: {', '.join(said)} ({job.state}, load {outcome.load:.1f})",
        flush=True,
    )
    if foretold.note:
        print(f"          {foretold.note}", flush=True)
    if abs(outcome.error("seconds") or 0.0) > _SECONDS:
        steps = {step.name: step.seconds or 0.0 for step in job.steps}
        told = (f"{name} {part:.2f} -> {steps.get(name, 0.0):.2f}" for name, part in foretold.estimate.parts.items())
        print(f"          of that: {', '.join(told)}", flush=True)
    return outcome


_FIGURES = ("seconds", "memory_bytes", "disk_bytes")


def within(outcomes: list[Outcome], figure: str, most: float) -> float:
    """Share of the jobs whose figure was foretold that well."""
    errors = [error for one in outcomes if (error := one.error(figure)) is not None]
    return statistics.mean(abs(error) <= most for error in errors) if errors else math.nan


def ran_out(outcomes: list[Outcome]) -> int:
    """Jobs that ran out of memory though they were admitted."""
    codes = {"out_of_memory", "worker_killed"}
    return sum(one.job.error is not None and one.job.error.code in codes for one in outcomes)


def main() -> int:
    """Run it."""
    args = parser(__doc__.partition("\n")[0]).parse_args()
    cases = quick() if args.quick or args.data is None else varied()
    table = Table("Estimates")
    weights = {} if args.data is None else {"GRAFT_WEIGHTS_DIR": str(args.data / "weights")}
    with service(**weights) as (url, _), TemporaryDirectory() as scratch:
        client = Graft(url)
        names = sorted({case.data for case in cases})
        sources = {name: upload(client, name, args.data, Path(scratch)) for name in names}
        outcomes = [run(client, case, sources[case.data]) for case in cases]
    table.add("jobs", len(outcomes))
    table.add("cores", os.cpu_count() or 1)
    table.add(
        "load of the machine, median (1 to 2 is this benchmark alone)", statistics.median(one.load for one in outcomes)
    )
    table.add("jobs that succeeded", sum(one.job.state == "succeeded" for one in outcomes), f">= {len(outcomes)}")
    table.add("times within 20 %, share", within(outcomes, "seconds", _SECONDS), ">= 0.9")
    table.add("memory within 15 %, share", within(outcomes, "memory_bytes", _MEMORY), ">= 0.9")
    table.add("admitted jobs that ran out of memory", ran_out(outcomes), "<= 0")
    for figure in _FIGURES:
        held = [found for one in outcomes if (found := one.covered(figure)) is not None]
        table.add(f"{figure} within its interval, share", statistics.mean(held) if held else math.nan)
        errors = [abs(error) for one in outcomes if (error := one.error(figure)) is not None]
        table.add(f"{figure}, median error", statistics.median(errors) if errors else math.nan)
    return table.finish(args.json)


if __name__ == "__main__":
    raise SystemExit(main())
