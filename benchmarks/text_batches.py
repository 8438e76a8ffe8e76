"""What batches of texts of about the same length bring: `python -m benchmarks.text_batches --data DIR [--quick]`.

MiniLM is trained on reviews, a step with a batch at random and one with a batch as training makes them in turns, so
that both see the same machine. A batch is padded to its longest text, and padding costs as much as what is read.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import sets, text_parity
from benchmarks.common import Table, parser
from core.processes import keep_freed_memory
from worker.engine.backbones import open_base
from worker.engine.batches import all_shuffled, of_like_size, padded

_BATCH, _STEPS, _CLASSES = 16, 16, 2


def main() -> int:
    """Run it."""
    chosen = parser((__doc__ or "").partition("\n")[0]).parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    keep_freed_memory()
    table = Table("Batches of texts of about the same length")
    for kind in sets.REVIEWS[:1] if chosen.quick else sets.REVIEWS:
        measure(table, chosen.data, kind, steps=2 if chosen.quick else _STEPS)
    return table.finish(chosen.json)


def measure(table: Table, data: Path, kind: str, *, steps: int) -> None:
    """One kind of reviews."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        texts = text_parity.texts(sets.reviews(data, kind).refer(Path(folder)), split="train")
    base = open_base("minilm_l6", weights_dir=None)
    preparer = base.preparer()
    prepared = [preparer(text) for text in texts]
    lengths = [len(ids) for ids, _ in prepared]
    sizes = [len(text.encode()) for text in texts]
    orders = [all_shuffled(len(texts), _BATCH, 0)(1), of_like_size(sizes, _BATCH, 0)(1)]
    step = training(base.backbone().module)
    step([torch.from_numpy(part) for part in preparer.collate(prepared[:_BATCH])])  # the first one warms up
    seconds, items = [0.0, 0.0], [0, 0]
    for turn in range(steps):
        for way, batches in enumerate(orders):
            batch = batches[turn * len(batches) // steps]
            begun = time.perf_counter()
            step([torch.from_numpy(part) for part in preparer.collate([prepared[i] for i in batch])])
            seconds[way] += time.perf_counter() - begun
            items[way] += len(batch)
    real = float(np.mean(lengths))
    for way, name in enumerate(("at random", "of like length")):
        table.add(f"{kind}, {name}: tokens that are computed for each of a text's", padded(lengths, orders[way]) / real)
        table.add(f"{kind}, {name}: a text", 1000 * seconds[way] / items[way], "", "ms")
    faster = (seconds[0] / items[0]) / (seconds[1] / items[1])
    table.add(f"{kind}: texts a second, of like length to at random", faster, ">= 1.1" if steps == _STEPS else "", "x")


def training(module: torch.nn.Module) -> Callable[[Sequence[torch.Tensor]], None]:
    """A step on a batch; labels do not matter for what it takes."""
    width = int(module(torch.ones(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)).shape[1])
    head = torch.nn.Linear(width, _CLASSES)
    optimiser = torch.optim.AdamW([*module.train().parameters(), *head.parameters()], 1e-5)

    def step(inputs: Sequence[torch.Tensor]) -> None:
        labels: NDArray[np.int64] = np.arange(len(inputs[0])) % _CLASSES
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(module(*inputs)), torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


if __name__ == "__main__":
    raise SystemExit(main())
