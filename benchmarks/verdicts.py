"""Forty jobs whose verdict is known beforehand, and what the test behind a verdict does by itself.

In twenty jobs the transfer helps by construction, and `improved` is right; in twenty it cannot, and anything else is
(`benchmarks.verdict_jobs`). Nothing that is significantly worse than the best baseline may be what is served. Then
the share of simulated jobs that are called improved, by the true difference, and of those that are shown a difference
though there is none (`benchmarks.verdict_power`). `--data DIR` holds the data sets; `--kept DIR` keeps what each job
came to, so that a run that was broken off goes on from there.
"""

import json
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import verdict_power
from benchmarks.common import Table, parser
from benchmarks.verdict_jobs import TABLE, Made, forty
from core.contract.jobs import JobSpec
from core.contract.verdicts import Arm, Judgement
from worker.engine import run
from worker.engine.door import Inputs, Places, Result

JOB, PARENT, CHILD = "job_" + "0" * 26, "mdl_" + "0" * 26, "mdl_" + "1" * 26
ITEMS, GAINS = (100, 500), (0.0, 0.02, 0.05, 0.1, 0.15)
NULLS, RUNS = 2000, 200


def judged(data: Path, made: Made, scratch: Path) -> Result:
    """Run it through the engine's door, after the job of the model that it starts from."""
    source, before = made.upload(data).refer(scratch), made.former(data)
    if before is None:
        spec = JobSpec(
            source=source.id, base_model=made.base_model, method=made.method, seed=made.seed, baselines=made.baselines
        )
        return _run(spec, Inputs(JOB, CHILD, source), scratch)
    former = before.refer(scratch)
    spec = JobSpec(source=former.id, method=TABLE, seed=made.seed, baselines="none")
    parent = _run(spec, Inputs(JOB, PARENT, former), scratch, keep=True)
    spec = JobSpec(source=source.id, base_model=PARENT, method=made.method, seed=made.seed, baselines=made.baselines)
    return _run(spec, Inputs(JOB, CHILD, source, parent=parent.bundle, former=former), scratch)


def _run(spec: JobSpec, inputs: Inputs, scratch: Path, *, keep: bool = False) -> Result:
    out = Path(tempfile.mkdtemp(dir=scratch))
    places = Places(out, scratch / "cache", threads=1)  # two at a time
    result = run(spec, inputs, places, sink=lambda _kind, _data: None, should_stop=lambda: "go_on")
    if not keep:
        shutil.rmtree(out)
    return result


@dataclass(frozen=True)
class Told:
    """What a job's report says of its arms."""

    verdict: str
    sentence: str
    harm: bool
    """Whether what is served is significantly worse than a baseline."""


def told(data: Path, scratch: Path, kept: Path | None, made: Made) -> Told:
    """Of one job; what is kept is not run again."""
    path = None if kept is None else kept / f"{made.kind} {made.seed}.json"
    if path is not None and path.is_file():
        return Told(**json.loads(path.read_text()))
    report = judged(data, made, scratch).report
    assert report.judgement is not None
    found = Told(report.judgement.verdict, report.judgement.sentence, harmful(report.judgement, report.arms))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(found)) + "\n")
    return found


def harmful(judgement: Judgement, arms: list[Arm]) -> bool:
    """Whether the arm that is served is significantly worse on the held-out items than the best baseline there.

    The intervals of the arms' own figures do not overlap, or the report itself compares the two so.
    """
    served = next(arm for arm in arms if arm.served)
    best = max((arm for arm in arms if arm.state == "measured"), key=lambda arm: arm.value or 0.0)
    if served.role == "method" and best.difference is not None:
        return best.difference.high < 0
    return (served.high or 0.0) < (best.low or 0.0)


def jobs(table: Table, data: Path, kept: Path | None, *, quick: bool) -> None:
    """All jobs, two at a time."""
    plan, found, right, harm = list(forty(quick=quick)), Counter[tuple[bool, str, str]](), 0, 0
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        for made, one in zip(plan, _all(partial(told, data, Path(folder), kept), plan), strict=True):
            found[made.helps, made.kind, one.verdict] += 1
            fits = (one.verdict == "improved") == made.helps
            right, harm = right + fits, harm + one.harm
            print(f"     {'' if fits else 'WRONG '}{made.kind} ({made.seed}): {one.sentence}", flush=True)
    for (helps, kind, verdict), count in sorted(found.items(), reverse=True):
        table.add(f"{'helps' if helps else 'cannot'}: {kind}: {verdict}", count, "", "jobs")
    table.add("jobs", len(plan), "", "jobs")
    table.add("verdicts that are right", right, f">= {-(-95 * len(plan) // 100)}", "jobs")
    table.add("served although significantly worse than a baseline", harm, "<= 0", "jobs")


def _all(run: "partial[Told]", plan: list[Made]) -> Iterator[Told]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, plan)


def statistics(table: Table, *, quick: bool) -> None:
    """The test by itself."""
    nulls, runs = (200, 20) if quick else (NULLS, RUNS)
    for world in verdict_power.worlds():
        for items in ITEMS:
            share, error = verdict_power.false_alarms(world, items, nulls, seed=items)
            goal = f"<= {0.05 + error:.3f}"
            table.add(f"{world.name}, {items} items: a difference where there is none", share, goal)
    for world in verdict_power.worlds():
        if world.lopsided:
            continue
        for items in ITEMS:
            for gain in GAINS:
                share, true = verdict_power.improved(world, items, gain, runs, seed=items)
                table.add(f"{world.name}, {items} items, better by {true:.3f}: improved", share)


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    chosen = parser(__doc__ or "")
    chosen.add_argument("--kept", type=Path, help="folder for what single jobs came to")
    chosen.add_argument("--part", choices=["all", "jobs", "statistics"], default="all")
    options = chosen.parse_args()
    if options.data is None and options.part != "statistics":
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("verdicts")
    if options.part != "statistics":
        jobs(table, options.data, options.kept, quick=options.quick)
    if options.part != "jobs":
        statistics(table, quick=options.quick)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
