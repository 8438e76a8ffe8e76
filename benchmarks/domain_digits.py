"""Deep and generative adaptation between MNIST and USPS with a small network, both directions.

`--data DIR` holds the data sets. The usual protocol (Long et al., ICCV 2013): 2,000 digits of MNIST and 1,800 of USPS,
drawn from their training parts by a fixed seed; both are stretched to 28 x 28 pixels, white on black, and augmented by
small turns, shifts and changes of size. The network is Conv-4 from random weights. Hyper-parameters are the defaults,
the same both ways; what is kept while training is chosen by the score without labels. Labels of the target only
measure. `--methods a,b` takes some of the methods; `--seed` another draw.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import sets
from benchmarks.common import Table, parser
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS, FineTune
from worker.engine import run
from worker.engine.door import DataRef, Inputs, Places, Result

MNIST, USPS = 2000, 1800
SOURCE, TARGET = "ds_" + "0" * 25 + "1", "ds_" + "0" * 25 + "2"
GOALS = {"dann": ">= 90", "mcc": ">= 93", "shot": ">= 95", "gan": ">= 90"}
DEEP = ("mcc", "shot", "cdan", "dann", "dan", "jan", "deep_coral", "adabn", "gan")
MOST = "<= 900"
"""Seconds of one job, on two cores that it has for itself."""


def uploads(data: Path, scratch: Path, seed: int, *, quick: bool) -> dict[str, DataRef]:
    """Both domains as a user would send them."""
    rng, share = np.random.default_rng(seed), 10 if quick else 1
    found = {"MNIST": (*sets.mnist(data, "train"), MNIST // share), "USPS": (*sets.usps(data), USPS // share)}
    return {
        name: _upload(name, pixels, labels, rng.permutation(len(labels))[:count]).refer(scratch)
        for name, (pixels, labels, count) in found.items()
    }


def _upload(name: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> sets.Upload:
    files = {f"{labels[i]}/{i:05}.png": sets.png(pixels[i]) for i in np.sort(chosen)}
    return sets.Upload(f"digits of {name}", "image", ".zip", sets.pack(files))


def adapt(
    method: Any, source: DataRef, target: DataRef, scratch: Path, seed: int, *, measures: bool = False
) -> tuple[Result, float]:
    """One job through the engine's door, and its wall-clock seconds; the target only `measures` where none adapts."""
    spec = JobSpec(
        source=SOURCE,
        target=None if measures else TARGET,
        evaluation=TARGET if measures else None,
        method=method,
        base_model="conv4",
        seed=seed,
        baselines="none",
    )
    out = Path(tempfile.mkdtemp(dir=scratch))
    inputs = Inputs(
        "job_" + "0" * 26,
        "mdl_" + "0" * 26,
        source,
        evaluation=target if measures else None,
        target=None if measures else target,
    )
    started = time.perf_counter()
    places = Places(out, scratch / "cache")
    result = run(spec, inputs, places, sink=lambda _kind, _data: None, should_stop=lambda: "go_on")
    shutil.rmtree(out)
    return result, time.perf_counter() - started


def accuracy(result: Result) -> float:
    """On the target, in percent."""
    return 100 * next(metric.value for metric in result.report.metrics if metric.name == "accuracy")


def digits(
    table: Table, data: Path, scratch: Path, methods: Sequence[str] = DEEP, *, seed: int = 0, quick: bool = False
) -> None:
    """A network trained on the source alone, then each method."""
    refs = uploads(data, scratch, seed, quick=quick)
    small: dict[str, Any] = {"epochs": 2} if quick else {}
    alone = FineTune(init="scratch", head_start=False, augmentation="light", horizontal_flip=False, **small)
    _both(table, "source_only", alone, refs, scratch, seed, goal="", measures=True)
    for name in methods:
        method = METHODS[name].model_validate(small)
        _both(table, name, method, refs, scratch, seed, goal="" if quick else GOALS.get(name, ""))


def _both(
    table: Table,
    name: str,
    method: Any,
    refs: dict[str, DataRef],
    scratch: Path,
    seed: int,
    *,
    goal: str,
    measures: bool = False,
) -> None:
    found = []
    for source, target in (("MNIST", "USPS"), ("USPS", "MNIST")):
        result, seconds = adapt(method, refs[source], refs[target], scratch, seed, measures=measures)
        found.append(accuracy(result))
        table.add(f"{source} -> {target}, {name}", found[-1], "", "%")
        table.add(f"{source} -> {target}, {name}, whole job", seconds, "" if measures else MOST, "s")
    table.add(f"MNIST <-> USPS, {name}, mean", sum(found) / 2, goal, "%")


def measure(table: Table, data: Path, *, quick: bool) -> None:
    """All methods."""
    with tempfile.TemporaryDirectory(prefix="graft-digits-") as scratch:
        digits(table, data, Path(scratch), DEEP, seed=0, quick=quick)


def main() -> int:
    """Run it."""
    options = parser(__doc__ or "")
    options.add_argument("--methods", default=",".join(DEEP), help="some of the methods, by commas")
    options.add_argument("--seed", type=int, default=0, help="of the digits drawn and of the training")
    given = options.parse_args()
    table = Table("Deep adaptation between MNIST and USPS")
    with tempfile.TemporaryDirectory(prefix="graft-digits-") as scratch:
        digits(table, given.data, Path(scratch), given.methods.split(","), seed=given.seed, quick=given.quick)
    return table.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())
