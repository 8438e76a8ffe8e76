"""Tables for the tests of whole jobs: rows in memory -> a data set as ingestion leaves it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.contract.base import new_id
from core.contract.datasets import SPLITS, Column, DatasetManifest, Item, Problem
from worker.engine.door import DataRef

Row = Mapping[str, Any]


def columns(**kinds: str) -> list[Column]:
    """Columns by name and kind."""
    return [Column.model_validate({"name": name, "kind": kind}) for name, kind in kinds.items()]


def table(
    folder: Path,
    rows: Sequence[Row],
    targets: Sequence[Any],
    kinds: Sequence[Column],
    *,
    problem: Problem = "classification",
    classes: Sequence[str] = (),
    seed: int = 0,
) -> DataRef:
    """Write rows and a manifest; 60 % are for training, 20 % each for validation and test."""
    place = folder / new_id("req")
    place.mkdir(parents=True)
    field = {"classification": "label", "multi_label": "labels", "regression": "value"}[problem]
    splits = np.random.default_rng(seed).choice(len(SPLITS), size=len(rows), p=[0.6, 0.2, 0.2])
    items, content = [], bytearray()
    for number, (row, target) in enumerate(zip(rows, targets, strict=True)):
        data = json.dumps(row, separators=(",", ":")).encode()
        facts = {
            "name": f"row {number + 1}",
            "offset": len(content),
            "length": len(data),
            "size": len(data),
            "split": SPLITS[splits[number]],
            "sha256": hashlib.sha256(data).hexdigest(),
            field: target,
        }
        items.append(Item.model_validate(facts))
        content += data
    digest = hashlib.sha256(content).hexdigest()
    manifest = DatasetManifest(
        modality="tabular",
        problem=problem,
        content_sha256=digest,
        classes=list(classes),
        columns=list(kinds),
        target="target",
        items=items,
    )
    (place / "content").write_bytes(content)
    text = manifest.model_dump_json().encode()
    (place / "manifest.json").write_bytes(text)
    return DataRef(new_id("ds"), place / "manifest.json", hashlib.sha256(text).hexdigest(), place / "content")
