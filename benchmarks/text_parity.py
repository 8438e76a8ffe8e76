"""Answers of a model of texts by the API's own path (ONNX Runtime, no torch) beside PyTorch's."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.predictions import batches
from app.predictions.sessions import Parts, Session, open_session
from core.bundle import read_member
from core.contract.datasets import DatasetManifest
from core.modality.preparers import Arrays
from core.modality.reader import DatasetReader
from worker.engine.backbones import Base, open_base, own
from worker.engine.door import DataRef, Result
from worker.engine.heads import Head

Floats = NDArray[np.float32]


def texts(source: DataRef, count: int | None = None, *, split: str = "test") -> list[str]:
    """So many items of one of the data set's splits, or all."""
    manifest = DatasetManifest.model_validate_json(source.manifest.read_bytes())
    reader = DatasetReader(manifest, source.content)
    chosen = [index for index, item in enumerate(manifest.items) if item.split == split]
    return [str(reader.item(index)) for index in chosen[:count]]


def by_onnx(result: Result, bundle: Path, found: list[str]) -> Floats:
    """Calibrated probabilities (n, classes), as `POST /models/{id}/predict` reckons them."""
    assert result.manifest is not None
    manifest = result.manifest
    parts = Parts(read_member(bundle, "model.onnx"), manifest.prepare, read_member(bundle, "tokenizer.json"))
    session: Session = open_session(parts, threads=1)

    def run(some: list[Arrays]) -> Floats:
        return session.run("probabilities", manifest.input_names, session.preparer.collate(some))

    return np.stack(list(batches.infer([session.preparer(text) for text in found], "text", run)))


def by_torch(base: Base, head: Head, temperature: float, found: list[str]) -> Floats:
    """The same by the network's module, one text after the other: nothing is padded."""
    preparer, module = base.preparer(), base.backbone().module.eval()
    rows = []
    with torch.inference_mode():
        for text in found:
            embedding = module(*(torch.from_numpy(part) for part in preparer.collate([preparer(text)])))
            rows.append(torch.softmax(head.as_module()(embedding) / temperature, dim=1)[0].numpy())
    return np.stack(rows)


def compared(result: Result, source: DataRef, count: int) -> tuple[float, float]:
    """Largest difference of all probabilities, and the share of items on which both name the same class."""
    assert result.manifest is not None
    assert result.bundle is not None
    base = open_base(result.manifest.model_id, weights_dir=None, parent=result.bundle)
    head, found = own.head(result.bundle, result.manifest), texts(source, count)
    assert head is not None
    one, other = by_onnx(result, result.bundle, found), by_torch(base, head, result.manifest.temperature, found)
    return float(np.abs(one - other).max()), float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
