"""A table's preparation, made from its training rows."""

from pathlib import Path

from core.contract.prepare import TabularPrepare
from core.modality import tabular
from worker.engine.backbones import own
from worker.engine.data import JobData


def fit_table(data: JobData, parent: Path | None) -> TabularPrepare:
    """Of the training rows; columns that the parent's bundle knows keep what it says of them."""
    reader = data.train.collection.reader
    known = None if parent is None else own.manifest(parent).prepare
    rows = (reader.item(int(index)) for index in data.train.indices)
    return tabular.fit(rows, data.source.columns, known if isinstance(known, TabularPrepare) else None)
