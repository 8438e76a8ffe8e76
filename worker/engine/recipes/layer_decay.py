"""Layer-wise learning-rate decay: what lies nearer to the input is more general, and learns more slowly.

Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, ACL 2018; Clark, Luong, Le, Manning:
ELECTRA, ICLR 2020.
"""

from collections.abc import Sequence

from torch import nn

Stages = Sequence[tuple[str, Sequence[nn.Module]]]


def rates(stages: int, peak: float, decay: float) -> list[float]:
    """Learning rate of each stage from input to output: the last has `peak`, each other one `decay` times the next."""
    return [peak * decay ** (stages - 1 - number) for number in range(stages)]


def stage_numbers(stages: Stages) -> dict[int, int]:
    """The number of the stage, from 0 at the input, that each parameter lies in, by the parameter's `id`.

    A parameter that several stages share belongs to the first of them.
    """
    found: dict[int, int] = {}
    for number, (_, parts) in enumerate(stages):
        for part in parts:
            for parameter in part.parameters():
                found.setdefault(id(parameter), number)
    return found
