"""Linear probe, fine-tuning, LP-FT and training from scratch on ten real sets; the frozen job against a course's loop.

`--data DIR` holds the data sets. On two cores a whole run is a matter of hours: `--sets a,b`, `--methods` and `--seeds`
take a part, `--kept DIR` keeps what each job came to, and `--only-kept` makes the table of what is there.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import sets, text_parity
from benchmarks.common import Table, parser
from benchmarks.course import course_loop
from benchmarks.recipes import METHODS, USUAL, Bench, adapt, recipes, spec
from core.contract.methods import LinearProbe
from core.processes import keep_freed_memory
from worker.engine.door import Result

EPOCHS = 25
TEXTS = 200


def figure(result: Result, name: str) -> float:
    """A metric of the report."""
    return next(metric.value for metric in result.report.metrics if metric.name == name)


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
    first, _ = adapt(spec(LinearProbe(), 0), source, cache, scratch, keep=True)
    warm = [adapt(spec(LinearProbe(), 0), source, cache, scratch) for _ in range(3)]
    table.add("2,000 reviews, linear_probe, accuracy", figure(warm[0][0], "accuracy"))
    table.add("2,000 reviews, linear_probe, second run", statistics.median(seconds for _, seconds in warm), "< 1", "s")
    difference, same = text_parity.compared(first, source, TEXTS)
    table.add(f"{TEXTS} reviews by ONNX and by PyTorch, largest difference of a probability", difference, "<= 1e-4")
    table.add(f"{TEXTS} reviews by ONNX and by PyTorch, the same answer, share", same, ">= 1")


def _parity(results: list[tuple[Result, float]]) -> float:
    return max(result.manifest.parity.max_abs_difference for result, _ in results if result.manifest)


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "")
    options.add_argument("--sets", default="", help="only sets whose names have one of these parts, e.g. bees,reviews")
    options.add_argument("--seeds", type=int, default=3, help="how many seeds; the figures are their medians")
    options.add_argument("--methods", default=",".join(USUAL), help=f"of {', '.join(METHODS)}")
    options.add_argument(
        "--kept", type=Path, help="folder for what single jobs came to; what is there is not run again"
    )
    options.add_argument("--only-kept", action="store_true", help="run no recipe that is not kept")
    options.add_argument("--part", choices=["all", "frozen", "recipes"], default="all")
    chosen = options.parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    keep_freed_memory()  # as the process of a job does
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
            bench = Bench(scratch, chosen.kept, chosen.only_kept)
            recipes(table, chosen.data, bench, wanted=wanted, seeds=seeds, methods=methods)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
