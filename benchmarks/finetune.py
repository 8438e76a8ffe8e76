"""Linear probe, fine-tuning, LP-FT and training from scratch on ten real sets; the frozen job against a course's loop.

`--data DIR` holds the data sets. `--sets a,b` and `--seeds N` take a part: on two cores a whole run is a matter of
hours. Accuracies are the arms' own, on the same held-out items, whatever a job serves in the end.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import sets
from benchmarks.common import Table, parser
from benchmarks.course import course_loop
from core.contract.jobs import JobSpec
from core.contract.methods import FineTune, LinearProbe
from core.contract.verdicts import Arm
from worker.engine import run
from worker.engine.door import DataRef, Inputs, Places, Result

EPOCHS = 25
SOURCE = "ds_" + "0" * 26
LP_FT, PLAIN, SCRATCH = "LP-FT", "plain fine-tuning", "from scratch"
METHODS: dict[str, FineTune] = {
    LP_FT: FineTune(),
    PLAIN: FineTune(head_start=False),
    SCRATCH: FineTune(init="scratch", head_start=False),
}


@dataclass
class Outcome:
    """What one method did on one set, seed by seed."""

    arms: list[Arm] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Median over the seeds."""
        return statistics.median(arm.value or 0.0 for arm in self.arms)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval on the held-out items, of the seed in the middle."""
        middle = sorted(self.arms, key=lambda arm: arm.value or 0.0)[len(self.arms) // 2]
        return middle.low or 0.0, middle.high or 1.0


def adapt(spec: JobSpec, source: DataRef, cache: Path, scratch: Path) -> tuple[Result, float]:
    """One job through the engine's door; returns its result and its wall-clock seconds."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    inputs = Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source)
    started = time.perf_counter()
    result = run(spec, inputs, Places(out, cache), sink=lambda _kind, _data: None, should_stop=lambda: "go_on")
    shutil.rmtree(out)
    return result, time.perf_counter() - started


def spec(method: Any, seed: int) -> JobSpec:
    """A job on the modality's default base model."""
    return JobSpec(source=SOURCE, method=method, seed=seed)


def figure(result: Result, name: str) -> float:
    """A metric of the report."""
    return next(metric.value for metric in result.report.metrics if metric.name == name)


def arm(result: Result, name: str) -> Arm | None:
    """An arm that was measured."""
    found = [one for one in result.report.arms if one.name == name and one.state == "measured"]
    return found[0] if found else None


def one_set(table: Table, upload: sets.Upload, scratch: Path, seeds: Sequence[int], methods: Sequence[str]) -> Any:
    """All methods on one set."""
    source, cache = upload.refer(scratch), scratch / "cache"
    outcomes: dict[str, Outcome] = {}
    for name in methods:
        found = outcomes[name] = Outcome()
        for seed in seeds:
            result, seconds = adapt(spec(METHODS[name], seed), source, cache, scratch)
            own, probe = arm(result, "fine_tune"), arm(result, "linear_probe")
            assert own is not None
            found.arms.append(own)
            found.seconds.append(seconds)
            found.verdicts.append(result.report.judgement.verdict if result.report.judgement else "none")
            if probe is not None:
                found.probes.append(probe.value or 0.0)
        low, high = found.interval
        title = f"{upload.name}, {name}"
        table.add(f"{title}, accuracy", found.accuracy)
        table.add(f"{title}, low", low)
        table.add(f"{title}, high", high)
        table.add(f"{title}, seconds", statistics.median(found.seconds), "", "s")
        for verdict in sorted(set(found.verdicts)):
            table.add(f"{title}, verdict {verdict}", found.verdicts.count(verdict), "", "jobs")
    probes = [value for found in outcomes.values() for value in found.probes]
    if probes:
        table.add(f"{upload.name}, linear probe, accuracy", statistics.median(probes))
    return outcomes, statistics.median(probes) if probes else 0.0


def recipes(table: Table, data: Path, scratch: Path, *, wanted: Sequence[str], seeds: int, methods: list[str]) -> None:
    """The ten sets, and what is asked of them all together."""
    better, compared, rightly, scratches = 0, 0, 0, 0
    for upload in sets.ten(data):
        if wanted and not any(part in upload.name for part in wanted):
            continue
        outcomes, probe = one_set(table, upload, scratch, range(seeds), methods)
        if LP_FT in outcomes and PLAIN in outcomes:
            compared += 1
            better += outcomes[LP_FT].accuracy >= outcomes[PLAIN].accuracy
        if SCRATCH in outcomes and outcomes[SCRATCH].accuracy < probe:
            scratches += 1
            rightly += all(verdict in {"harmful", "not_improved"} for verdict in outcomes[SCRATCH].verdicts)
        if LP_FT in outcomes and upload.name == "hymenoptera":
            table.add("hymenoptera, LP-FT, accuracy, goal", outcomes[LP_FT].accuracy, ">= 0.948")
        if LP_FT in outcomes and upload.modality == "text":
            table.add(f"{upload.name}, LP-FT minus probe", outcomes[LP_FT].accuracy - probe, ">= 0.03")
    if compared:
        table.add("sets on which LP-FT is at least plain fine-tuning", better, f">= {-(-7 * compared // 10)}")
    if scratches:
        table.add("sets on which from scratch is worse and told so", rightly, f">= {scratches}")


def ants_and_bees(table: Table, data: Path, scratch: Path, *, quick: bool) -> None:
    """The frozen job, and the course's loop beside it."""
    source = sets.bees(data).refer(scratch)
    probes = []
    cache = scratch / "frozen"
    first = adapt(spec(LinearProbe(), 0), source, cache, scratch)[1]
    for i in range(1 if quick else 3):  # the base model's graph is exported once and stays; features are made anew
        shutil.rmtree(cache / "features")
        probes.append(adapt(spec(LinearProbe(), i), source, cache, scratch))
    cold = statistics.median(seconds for _, seconds in probes)
    accuracy = statistics.median(figure(result, "accuracy") for result, _ in probes)
    table.add("ants/bees, linear_probe, accuracy", accuracy, ">= 0.935")
    table.add("ants/bees, linear_probe, largest ONNX difference", _parity(probes), "<= 1e-4")
    table.add("ants/bees, linear_probe, very first job, with the export", first, "", "s")
    table.add("ants/bees, linear_probe, whole job, new data", cold, "", "s")
    warm = adapt(spec(LinearProbe(), 0), source, cache, scratch)[1]
    table.add("ants/bees, linear_probe, whole job, features cached", warm, "", "s")

    epochs = 2 if quick else EPOCHS
    folder = data / "hymenoptera"
    best, taught, seconds = course_loop(folder / "train.zip", folder / "val.zip", epochs)
    seconds *= EPOCHS / epochs
    table.add("course loop, accuracy of its last epoch", taught)
    table.add("course loop, accuracy of its best epoch, chosen on val", best)
    table.add(f"course loop, {EPOCHS} epochs", seconds, "", "s")
    table.add("frozen job (new data) faster than the course loop", seconds / cold, ">= 50", "x")
    table.add("frozen job minus course loop, accuracy", accuracy - taught, ">= 0")


def frozen_text(table: Table, data: Path, scratch: Path) -> None:
    """A frozen job on 2,000 reviews, the second time."""
    source, cache = sets.reviews(data, "kitchen").refer(scratch), scratch / "cache"
    adapt(spec(LinearProbe(), 0), source, cache, scratch)
    warm = [adapt(spec(LinearProbe(), 0), source, cache, scratch) for _ in range(3)]
    table.add("2,000 reviews, linear_probe, accuracy", figure(warm[0][0], "accuracy"))
    table.add("2,000 reviews, linear_probe, second run", statistics.median(seconds for _, seconds in warm), "< 1", "s")


def _parity(results: list[tuple[Result, float]]) -> float:
    return max(result.manifest.parity.max_abs_difference for result, _ in results if result.manifest)


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "")
    options.add_argument("--sets", default="", help="only sets whose names have one of these parts, e.g. bees,reviews")
    options.add_argument("--seeds", type=int, default=3, help="how many seeds; the figures are their medians")
    options.add_argument("--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)}")
    options.add_argument("--part", choices=["all", "frozen", "recipes"], default="all")
    chosen = options.parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("finetune")
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        scratch = Path(folder)
        if chosen.part != "recipes":
            ants_and_bees(table, chosen.data, scratch, quick=chosen.quick)
            frozen_text(table, chosen.data, scratch)
        if chosen.part != "frozen":
            wanted = ["hymenoptera"] if chosen.quick else [part for part in chosen.sets.split(",") if part]
            methods = [name.strip() for name in chosen.methods.split(",")]
            seeds = 1 if chosen.quick else chosen.seeds
            recipes(table, chosen.data, scratch, wanted=wanted, seeds=seeds, methods=methods)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
