"""What adapting costs at scale: seconds and memory of whole fits on 20,000 + 20,000 items, each in its own process.

The kernels of these methods are n x n in the papers: 3.2 GB for one of 20,000 items in double precision.
"""

import json
import resource
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.common import Table, parser
from core.contract.methods import METHODS
from worker.engine.methods.adapting import Domains

ITEMS, WIDTH, CLASSES = 20_000, 1280, 10
QUICK_ITEMS = 1_000
NAMES = ("kmm", "tca", "kliep", "domain_weights", "label_shift")
GOALS = {"kmm": ("<= 60", "<= 2"), "tca": ("<= 60", "<= 2")}


def domains(items: int, seed: int = 0) -> Domains:
    """Lumps of ten classes in 40 of 1,280 dimensions, as wide as features of a network; the target's have moved."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(40, WIDTH)).astype(np.float32) / np.float32(WIDTH**0.5)
    means = 2 * rng.normal(size=(CLASSES, 40))
    ys, yt = rng.integers(0, CLASSES, (2, items))
    xs, xt = (
        ((means[y] + rng.normal(size=(items, 40)) + move).astype(np.float32) @ axes)
        + 0.02 * rng.normal(size=(items, WIDTH)).astype(np.float32)
        for y, move in ((ys, 0.0), (yt, 0.3))
    )
    return Domains(xs, ys, xt, np.full(items, -1), CLASSES, [], [])


def fit(name: str, items: int) -> dict[str, float]:
    """Fit one method here; the peak is that of the process, libraries and data included."""
    found = domains(items)
    module = import_module(f"worker.engine.methods.{name}")
    started = time.perf_counter()
    module.fit(found, METHODS[name](), np.random.default_rng(0))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def measure(table: Table, _data: Path | None = None, *, quick: bool = False) -> None:
    """Add seconds and peak memory of each method."""
    items = QUICK_ITEMS if quick else ITEMS
    for name in NAMES:
        command = [sys.executable, "-m", "benchmarks.domain_parts", "--fit", name, "--items", str(items)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        seconds, size = GOALS.get(name, ("", ""))
        table.add(f"{name}, {items} + {items} items, the whole fit", told["seconds"], seconds, "s")
        table.add(f"{name}, {items} + {items} items, peak of the process", told["gigabytes"], size, "GB")


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "")
    options.add_argument("--fit", choices=NAMES, help="only this method, here, as JSON")
    options.add_argument("--items", type=int, default=ITEMS)
    chosen = options.parse_args()
    if chosen.fit is not None:
        print(json.dumps(fit(chosen.fit, chosen.items)))
        return 0
    table = Table("domain adaptation, scale")
    measure(table, quick=chosen.quick)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
