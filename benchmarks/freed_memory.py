"""What it brings that a job keeps the memory it has freed: `python -m benchmarks.freed_memory [--json FILE] [--quick]`.

Trainings by gradient descent on random photos and texts, each in a process of its own, with freed memory kept as jobs
keep it and handed back to the kernel as malloc does by itself. They take turns, so that both see the same machine.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import Table, parser
from core.processes import keep_freed_memory

_STEPS, _TURNS = 5, 3
_LENGTHS = (256, 24, 130, 64, 180)  # tokens: batches of texts differ in length
_CASES = ("efficientnet_lite0, batches of 8", "efficientnet_lite0, batches of 32", "a BERT of 6 layers, batches of 16")


def main() -> int:
    """Run it; with `--case` what one of its processes does."""
    options = parser((__doc__ or "").partition("\n")[0])
    options.add_argument("--case", choices=_CASES, help="train, and print the figures as JSON")
    options.add_argument("--keep", action="store_true", help="with --case: keep what is freed")
    chosen = options.parse_args()
    if chosen.case:
        print(json.dumps(_train(chosen.case, keep=chosen.keep)))
        return 0
    table = Table("Freed memory that is kept")
    for case in _CASES[:1] if chosen.quick else _CASES:
        seen = [(_run(case), _run(case, "--keep")) for _ in range(1 if chosen.quick else _TURNS)]
        before, after = (statistics.median(turn[kept]["seconds"] for turn in seen) for kept in (0, 1))
        table.add(f"{case}: a step, handed back", before, "", "s")
        table.add(f"{case}: a step, kept", after, "", "s")
        ratio = statistics.median(kept["seconds"] / back["seconds"] for back, kept in seen)
        table.add(f"{case}: kept to handed back", ratio, "<= 1.02")
        peaks = statistics.median(kept["peak"] / back["peak"] for back, kept in seen)
        table.add(f"{case}: peak of memory, kept to handed back", peaks, "<= 1.25")
    return table.finish(chosen.json)


def _run(case: str, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.freed_memory", "--case", case, *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _train(case: str, *, keep: bool) -> dict[str, float]:
    """Seconds of a step, in the middle of all but the first, and the most bytes that the process held."""
    if keep and not keep_freed_memory():
        print("malloc here cannot be told to keep what is freed.", file=sys.stderr)
    step = _texts() if "BERT" in case else _photos(int(case.rpartition(" ")[2]))
    seconds = []
    for number in range(_STEPS + 1):
        begun = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds[1:]), "peak": peak * 1024}


def _photos(size: int) -> Callable[[int], None]:
    import timm
    import torch

    module = timm.create_model("tf_efficientnet_lite0", num_classes=10).to(memory_format=torch.channels_last).train()
    inputs = torch.randn(size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (size,))
    return _stepping(module, lambda _number: torch.nn.functional.cross_entropy(module(inputs), labels))


def _texts() -> Callable[[int], None]:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    module = BertForSequenceClassification(config).train()
    labels = torch.randint(0, 2, (16,))

    def loss(number: int) -> Any:
        tokens = torch.randint(0, 30000, (16, _LENGTHS[number % len(_LENGTHS)]))
        return module(input_ids=tokens, labels=labels).loss

    return _stepping(module, loss)


def _stepping(module: Any, loss: Callable[[int], Any]) -> Callable[[int], None]:
    import torch

    optimiser = torch.optim.AdamW(module.parameters(), 1e-4)

    def step(number: int) -> None:
        optimiser.zero_grad()
        loss(number).backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    raise SystemExit(main())
