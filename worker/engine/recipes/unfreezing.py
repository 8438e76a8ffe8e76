"""Gradual unfreezing: the head first, then one stage more after the other, from the last to the first.

Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import math


def still_stages(stages: int, epoch: int, epochs: int) -> int:
    """How many of the first stages still rest in `epoch` (from 1) of `epochs`.

    In the first epoch all do; from then on they begin to learn in even portions, and all do once half of the epochs
    are over, so that none of them is left without training.
    """
    over = max(1, epochs // 2)
    return stages - math.ceil(stages * min(1.0, (epoch - 1) / over))
