"""Two feature spaces: left halves of digits with labels, right halves without; a tenth of them are pairs.

`--data DIR` holds `mnist`. The source is left halves of digits, the target right halves, each of 14 x 28 pixels. One
in ten of the target's belongs to a digit of the source and has its name; the other nine belong to digits that the
source does not have. What is measured is right halves of other digits still. Against it stands what a user could do
without adapting: train on the paired few, whose class their left half tells.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Table, parser
from benchmarks.sets import mnist
from core.contract.methods import KernelCca, LinearProbe
from worker.engine.methods import kernel_cca, linear_probe
from worker.engine.methods.adapting import Domains
from worker.engine.methods.aligning import lengths, through
from worker.engine.methods.maths.cca import view
from worker.engine.partners import paired

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
MEASURED = 5_000
LANDMARKS = 1_000
CLASSES = 10
SIZES = (1_000, 3_000)
SEEDS = (0, 1, 2)


def halves(data: Path, items: int, seed: int) -> tuple[Domains, Floats, Ints]:
    """What a method may see, of so many items in each domain, and right halves of other digits with the truth."""
    pixels, labels = mnist(data, "train")
    order = np.random.default_rng(seed).permutation(len(pixels))
    ours, others, new = order[:items], order[items : 2 * items - items // 10], order[-MEASURED:]
    theirs = np.concatenate([ours[: items // 10], others])
    found = Domains(
        _flat(pixels[ours][:, :, :14]),
        labels[ours].astype(np.int64),
        _flat(pixels[theirs][:, :, 14:]),
        np.full(len(theirs), -1),
        CLASSES,
        [f"left/{number}.png" for number in ours],
        [f"right/{number}.png" for number in theirs],
    )
    return found, _flat(pixels[new][:, :, 14:]), labels[new].astype(np.int64)


def _flat(pixels: NDArray[np.uint8]) -> Floats:
    return np.asarray(pixels.reshape(len(pixels), -1) / 255, dtype=np.float32)


def paired_few(found: Domains, new: Floats, *, kernel: bool) -> Ints:
    """Answers of a linear probe of the target's paired items, or of their Gaussian kernel's features."""
    ours, theirs = paired(found.source_names, found.target_names).T
    rng = np.random.default_rng(0)
    x, z, normalise = found.xt, new, "l2"
    if kernel:
        seen = view(through(x, lengths("image")), LANDMARKS, 2.0, rng)
        assert seen.kernel is not None
        x, z = seen.features.astype(np.float32), seen.kernel(through(z, lengths("image"))).astype(np.float32)
        normalise = "none"
    options = LinearProbe.model_validate({"normalise": normalise})
    head = linear_probe.fit(x[theirs], found.ys[ours], CLASSES, options, rng=rng).head
    return np.asarray(head(z).argmax(axis=1))


def measure(table: Table, data: Path, *, quick: bool = False) -> None:
    """Add the accuracy of the paired few and of kernel CCA, and how far they are apart."""
    for items in SIZES[:1] if quick else SIZES:
        runs = [_run(data, items, seed) for seed in (SEEDS[:1] if quick else SEEDS)]
        few, few_kernel, adapted = np.mean(runs, axis=0)
        title = f"halves, {items} items, {items // 10} paired"
        table.add(f"{title}: probe of the paired", few, "", "%")
        table.add(f"{title}: probe of the paired, Gaussian kernel", few_kernel, "", "%")
        table.add(f"{title}: kernel CCA", adapted, "", "%")
        table.add(f"{title}: kernel CCA beats the probe by", adapted - few, ">= 5", "points")


def _run(data: Path, items: int, seed: int) -> tuple[float, float, float]:
    found, new, truth = halves(data, items, seed)
    head = kernel_cca.fit(found, KernelCca(), np.random.default_rng(seed)).head
    answers = (
        paired_few(found, new, kernel=False),
        paired_few(found, new, kernel=True),
        head(new).argmax(axis=1),
    )
    few, few_kernel, adapted = (100 * float((answer == truth).mean()) for answer in answers)
    return few, few_kernel, adapted


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    chosen = parser(__doc__ or "").parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("domain adaptation, halves of digits")
    measure(table, chosen.data, quick=chosen.quick)
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
