"""What can be known of an adapted classifier without labels of its domain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """An adapted classifier beside the one that was trained on the source alone.

    n source items, m target items, C classes. There may be no source item at all, where the classifier to be adapted
    was there already. Logits of source items are honest where they are finite: from a fit that had not seen them.
    """

    xs: Floats
    """Source features (n, D) of the frozen base model."""
    ys: Ints
    """Classes (n,)."""
    xt: Floats
    """Target features (m, D)."""
    source_before: Floats
    """Logits (n, C) that source items get from the source-only classifier; NaN rows where there is none."""
    target_before: Floats
    """Logits (m, C) that target items get from it."""
    source_after: Floats
    """Logits (n, C) that source items get after adaptation; NaN rows where there is none."""
    target_after: Floats
    """Logits (m, C) that target items get after adaptation."""
    source_inner: Floats | None
    """Source items (n, K) as the adapted classifier represents them just before its last affine map."""
    target_inner: Floats | None
    """Target items (m, K) likewise."""
    audit: Ints
    """Classes (m,) of target items whose labels may be used to choose; -1 where they may not."""
    across: bool = False
    """Whether the domains are of different kinds: what is given as features then is a space that was learnt, and how
    far apart they lay in it before has no meaning."""

    @property
    def alone(self) -> bool:
        """Whether there are no source items."""
        return len(self.xs) == 0
