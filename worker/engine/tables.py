"""A table's preparation, made from its training rows."""

from pathlib import Path

from core.contract.prepare import TabularPrepare
from core.modality import tabular
from worker.engine.backbones import own
from worker.engine.data import Items


def fit_table(items: Items, parent: Path | None) -> TabularPrepare:
    """Of the rows that may be learnt from; columns that the parent's bundle knows keep what it says of them."""
    collection = items.collection
    known = None if parent is None else own.manifest(parent).prepare
    rows = (collection.reader.item(int(index)) for index in items.indices)
    columns = collection.manifest.columns
    return tabular.fit(rows, columns, known if isinstance(known, TabularPrepare) else None)
