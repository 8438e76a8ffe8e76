"""Forty jobs whose verdict is known beforehand: twenty in which the transfer helps by construction, twenty in which it
cannot.

A linear probe of handwritten digits is far better than the nearest class mean of the same features: `improved` is
right. With shuffled labels, with a network from random weights in place of the pretrained one, or with training images
whose pixels were mixed up, anything but `improved` is right; and what does harm must not be what is served.
`--data DIR` holds the data sets; each digit is embedded once.
"""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import sets
from benchmarks.common import Table, parser
from core.contract.jobs import JobSpec
from core.contract.methods import FineTune, LinearProbe
from worker.engine import run
from worker.engine.door import Inputs, Places, Result

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Spoil = Callable[[Pixels, Labels, np.random.Generator], tuple[Pixels, Labels]]
TRAIN, HELD_OUT = 400, 250
SCRATCH = FineTune(init="scratch", epochs=1, augmentation="none")


@dataclass(frozen=True)
class Made:
    """A job made for the purpose."""

    kind: str
    helps: bool
    method: Any
    spoil: Spoil | None
    collection: str
    seed: int
    train: int = TRAIN


def forty(quick: bool) -> Iterator[Made]:
    """The jobs; with `quick` one of each kind."""
    plan: list[tuple[str, bool, Any, Spoil | None, int, int]] = [
        ("a probe where class means do not do", True, LinearProbe(), None, 20, TRAIN),
        ("shuffled labels, probe", False, LinearProbe(), shuffled, 6, TRAIN),
        ("shuffled labels, logistic regression", False, LinearProbe(solver="lbfgs"), shuffled, 2, TRAIN),
        ("random weights", False, SCRATCH, None, 6, 150),
        ("training pixels mixed up", False, LinearProbe(), mixed, 6, TRAIN),
    ]
    for kind, helps, method, spoil, count, train in plan:
        for number in range(1 if quick else count):
            collection = "mnist" if number % 2 == 0 else "usps"
            yield Made(kind, helps, method, spoil, collection, number, train)


def shuffled(pixels: Pixels, labels: Labels, rng: np.random.Generator) -> tuple[Pixels, Labels]:
    """Labels that do not follow from the images, in training and on the held-out side."""
    return pixels, rng.permutation(labels)


def mixed(pixels: Pixels, labels: Labels, rng: np.random.Generator) -> tuple[Pixels, Labels]:
    """Training images with their pixels in random order, another one each; the held-out ones stay as they are."""
    broken = pixels.copy()
    flat = broken.reshape(len(broken), -1)
    flat[:-HELD_OUT] = rng.permuted(flat[:-HELD_OUT], axis=1)
    return broken, labels


def upload(data: Path, made: Made) -> sets.Upload:
    """Its data set, drawn by its seed: training items, then held-out ones."""
    rng = np.random.default_rng(made.seed)
    pixels, labels = sets.mnist(data, "train") if made.collection == "mnist" else sets.usps(data)
    chosen = rng.permutation(len(labels))[: made.train + HELD_OUT]
    images, truth = pixels[chosen], labels[chosen]
    if made.spoil is not None:
        images, truth = made.spoil(images, truth, rng)
    files = {
        f"{'train' if number < made.train else 'test'}/{label}/{number:04}.png": sets.png(image)
        for number, (image, label) in enumerate(zip(images, truth, strict=True))
    }
    return sets.Upload(f"{made.kind} {made.collection} {made.seed}", "image", ".zip", sets.pack(files))


def judged(data: Path, made: Made, scratch: Path) -> Result:
    """Run it through the engine's door."""
    source = upload(data, made).refer(scratch)
    spec = JobSpec(source=source.id, method=made.method, seed=made.seed)
    out = Path(tempfile.mkdtemp(dir=scratch))
    inputs = Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source)
    result = run(
        spec, inputs, Places(out, scratch / "cache"), sink=lambda _kind, _data: None, should_stop=lambda: "go_on"
    )
    shutil.rmtree(out)
    return result


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "").parse_args()
    if options.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table, told, right, served = Table("verdicts"), Counter[tuple[str, str]](), 0, 0
    jobs = list(forty(options.quick))
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        for made in jobs:
            judgement = judged(options.data, made, Path(folder)).report.judgement
            assert judgement is not None
            told[made.kind, judgement.verdict] += 1
            right += (judgement.verdict == "improved") == made.helps
            served += judgement.verdict == "harmful" and judgement.served == made.method.name
            print(f"     {made.kind} ({made.collection}, {made.seed}): {judgement.sentence}", flush=True)
    for (kind, verdict), count in sorted(told.items()):
        table.add(f"{kind}: {verdict}", count, "", "jobs")
    table.add("jobs", len(jobs), "", "jobs")
    table.add("verdicts that are right", right / len(jobs), ">= 0.95")
    table.add("harmful models that are served", served, "<= 0", "models")
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
