"""A few texts under a frozen text network: names of classes, which are in no data set."""

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from worker.engine.backbones.backbone import Base
from worker.engine.cache import CacheFolder
from worker.engine.graph import backbone_graph
from worker.engine.sessions import open_session

_BATCH = 8


def embed_texts(base: Base, texts: list[str], cache: CacheFolder) -> NDArray[np.float32]:
    """Embeddings (n, D) of texts, in full precision on the CPU; `JobError` `features_not_finite`."""
    session, preparer = open_session(backbone_graph(base, cache)), base.preparer()
    found = []
    for start in range(0, len(texts), _BATCH):
        batch = preparer.collate([preparer(text) for text in texts[start : start + _BATCH]])
        found.append(session.run(["embedding"], dict(zip(preparer.names, batch, strict=True)))[0])
    rows = np.concatenate(found).astype(np.float32)
    if not np.isfinite(rows).all():
        raise JobError(
            f"{base.identity.card.id} makes figures that are not finite of the classes' names.",
            code="features_not_finite",
            param="base_model",
            hint="Choose another base model; the weights of this one may be damaged.",
        )
    return rows
