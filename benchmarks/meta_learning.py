"""Learning from a few items: Omniglot from scratch, photos by frozen features, the inner loop's speed, a new class.

`--data DIR` holds the data sets; `--part` takes some of the parts, `--methods a,b` some of the methods. Omniglot: both
small background sets, whole alphabets held out by the service's own rule, 28 x 28 pixels, turns as classes, Conv-4 from
random weights; each method is a job through the engine's door, on all cores. `--kept DIR` keeps each job's figures in a
file, and does not run again what stands there; `--only-kept` runs nothing.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import meta_classes, meta_speed, sets
from benchmarks.common import Table, parser
from benchmarks.recipes import SOURCE
from core.contract.few_shot import EpisodeReport
from core.contract.jobs import Baselines, JobSpec
from worker.engine import run
from worker.engine.door import DataRef, Inputs, Places

GOALS: dict[str, dict[tuple[int, int], float]] = {
    "prototypical_network": {(5, 1): 0.98, (5, 5): 0.993, (20, 1): 0.94},
    "matching_network": {(5, 1): 0.97},
    "relation_network": {(5, 1): 0.98},
    "r2d2": {},
    "maml": {(5, 1): 0.97},
    "anil": {},
    "meta_sgd": {},
    "reptile": {(5, 1): 0.95},
}
USUAL = ("prototypical_network", "matching_network", "relation_network", "maml", "reptile")
PHOTOS = ("prototypical_network", "r2d2", "anil")
PARTS = ("omniglot", "photos", "speed", "class")
_MOST_SECONDS = 1800


@dataclass(frozen=True)
class Bench:
    """Where jobs run, and where what they came to is kept."""

    scratch: Path
    kept: Path | None
    only_kept: bool
    quick: bool

    def ask(
        self, name: str, method: dict[str, Any], source: DataRef, base_model: str | None, baselines: Baselines
    ) -> tuple[EpisodeReport, float] | None:
        """One job's episodes and its seconds, from what is kept or through the door."""
        path = None if self.kept is None else self.kept / f"{name}.json"
        if path is not None and path.is_file():
            known = json.loads(path.read_text())
            return EpisodeReport.model_validate(known["episodes"]), known["seconds"]
        if self.only_kept:
            return None
        job = JobSpec(source=SOURCE, method=method, base_model=base_model, baselines=baselines)  # type: ignore[arg-type]
        out = Path(tempfile.mkdtemp(dir=self.scratch))
        inputs = Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source)
        places = Places(out, self.scratch / "cache")
        begun = time.perf_counter()
        report = run(job, inputs, places, sink=lambda _kind, _data: None, should_stop=lambda: "go_on").report
        seconds = time.perf_counter() - begun
        shutil.rmtree(out)
        assert report.episodes is not None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {"seconds": seconds, "episodes": report.episodes.model_dump(mode="json")}
            path.write_text(json.dumps(found) + "\n")
        return report.episodes, seconds


def omniglot(table: Table, data: Path, bench: Bench, methods: Sequence[str]) -> None:
    """Each method from scratch, with its defaults but for the ways that are measured."""
    source = None if bench.only_kept else sets.omniglot(data).refer(bench.scratch)
    for name in methods:
        method: dict[str, Any] = {"name": name, "rotations": True, "ways": [5, 20], "shots": [1, 5]}
        if bench.quick:
            method |= {"steps": 40, "episodes": 20}
        found = bench.ask(f"omniglot {name}", method, source, "conv4", "none")  # type: ignore[arg-type]
        if found is not None:
            _tell(table, "Omniglot", found[0], GOALS[name])
            table.add(f"Omniglot, {name}, the whole job", found[1], f"<= {_MOST_SECONDS}", "s")


def photos(table: Table, data: Path, bench: Bench, methods: Sequence[str]) -> None:
    """Frozen EfficientNet-Lite0 on twelve classes of photos: SimpleShot, and what meta-training adds or costs.

    Five are measured on, two choose, five are trained on: few to meta-learn from.
    """
    office = sets.photos(data).refer(bench.scratch)
    few = {"ways": [5], "shots": [1, 5], "episodes": 20 if bench.quick else 600}
    simple = bench.ask(
        "photos simple_shot", {"name": "simple_shot", **few, "transductive": "bd_cspn"}, office, None, "quick"
    )
    if simple is not None:
        _tell(table, "photos", simple[0], {})
    for name in methods:
        found = bench.ask(f"photos {name}", {"name": name, **few}, office, None, "quick")
        if found is None:
            continue
        _tell(table, "photos", found[0], {}, only=name)
        first = {figure.arm: figure.accuracy for figure in found[0].figures if figure.shots == 1}
        table.add(f"photos, {name} minus SimpleShot, 1 shot", first[name] - first["simple_shot"])


def _tell(
    table: Table, what: str, found: EpisodeReport, goals: dict[tuple[int, int], float], only: str | None = None
) -> None:
    for figure in found.figures:
        if only is not None and figure.arm != only:
            continue
        title = f"{what}, {figure.arm}, {figure.ways} ways {figure.shots} shot{'s' * (figure.shots > 1)}"
        goal = goals.get((figure.ways, figure.shots))
        table.add(title, figure.accuracy, "" if goal is None else f">= {goal}")
        table.add(f"{title}, half interval", ((figure.high or 0.0) - (figure.low or 0.0)) / 2)
        table.add(f"{title}, episodes", figure.episodes)


def main() -> int:
    """All parts that are wanted; the exit status is 1 if a goal was missed."""
    wanted = parser(__doc__ or "")
    wanted.add_argument("--part", default=",".join(PARTS))
    wanted.add_argument("--methods", default=",".join(USUAL))
    wanted.add_argument("--kept", type=Path)
    wanted.add_argument("--only-kept", action="store_true")
    asked = wanted.parse_args()
    table = Table("meta_learning")
    parts = asked.part.split(",")
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        bench = Bench(Path(folder), asked.kept, asked.only_kept, asked.quick)
        if asked.data is not None and "omniglot" in parts:
            omniglot(table, asked.data, bench, asked.methods.split(","))
        if asked.data is not None and "photos" in parts:
            photos(table, asked.data, bench, PHOTOS)
        if "speed" in parts and not bench.only_kept:
            meta_speed.speed(table)
        if asked.data is not None and "class" in parts and not bench.only_kept:
            meta_classes.new_class(table, asked.data, Path(folder))
    return table.finish(asked.json)


if __name__ == "__main__":
    sys.exit(main())
