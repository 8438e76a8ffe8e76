"""Small real models: an ONNX graph in a stored zip, with the rows that a job would have made."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from core.contract.base import new_id, now
from core.contract.models import Model, ModelFile, ModelManifest, Parity
from core.contract.prepare import ImagePrepare
from core.contract.reports import Metric
from core.settings import Settings
from core.store import models
from core.store.store import Store
from migrations.run import upgrade
from tests.app.conftest import neighbour

COLOURS = ["red", "green", "blue"]


@dataclass(frozen=True)
class Bundle:
    """A model in the store, with its zip and its files."""

    model: Model
    zip: bytes
    files: dict[str, bytes]


def graph(classes: int = 3, *, temperature: float = 1.5, weight: float = 3.0) -> bytes:
    """Mean colour -> linear -> softmax: class i answers to channel i (further classes to none)."""
    matrix = np.zeros((classes, 3), np.float32)
    np.fill_diagonal(matrix, weight)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("Div", ["logits", "temperature"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    weights = [
        numpy_helper.from_array(matrix, "weight"),
        numpy_helper.from_array(np.linspace(0, -0.1, classes, dtype=np.float32), "bias"),
        numpy_helper.from_array(np.array(temperature, np.float32), "temperature"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("probabilities", classes), ("logits", classes), ("embedding", 3))
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "colours", [image], outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def make_bundle(*, classes: list[str] | None = None, onnx_bytes: bytes | None = None, size: int = 32) -> Bundle:
    """A bundle and its record, in no store yet."""
    classes = classes or COLOURS
    manifest = manifest_of(classes=classes, prepare=_prepare(size))
    return bundle_of(manifest, onnx_bytes if onnx_bytes is not None else graph(len(classes)))


def bundle_of(manifest: ModelManifest, onnx_bytes: bytes, **more: bytes) -> Bundle:
    """A bundle with that manifest and graph, and with more files (`tokenizer` is `tokenizer.json`)."""
    files = {
        "model.onnx": onnx_bytes,
        "manifest.json": manifest.model_dump_json().encode(),
        "README.md": f"# {manifest.model_id}\n".encode(),
        **{name if "." in name else f"{name}.json": content for name, content in more.items()},
    }
    content, members = _zip(files)
    model = Model(
        id=manifest.model_id,
        job_id=manifest.job_id,
        base_model=manifest.base_model,
        method="linear_probe",
        classes=manifest.classes,
        metrics={"accuracy": 0.9},
        modality=manifest.modality,
        problem=manifest.problem,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        files=members,
        manifest=manifest,
        created_at=now(),
    )
    return Bundle(model, content, files)


def put(store: Store, bundle: Bundle, tenant: str = "default") -> Bundle:
    """Enter a bundle in the store, as the worker does."""
    with store.db.write(blobs=True) as tx:
        assert store.blobs.put(bundle.zip) == bundle.model.sha256
        models.add(tx, tenant, bundle.model)
    return bundle


@contextmanager
def one_model(folder: Path, bundle: Bundle | None = None) -> Iterator[tuple[TestClient, Bundle]]:
    """A service with one model, for tests that change nothing and may share it."""
    settings = Settings(data_dir=folder)
    store = Store.open(settings)
    upgrade(store.db)
    bundle = put(store, bundle or make_bundle())
    with neighbour(settings) as client:
        yield client, bundle
    store.close()


def _prepare(size: int) -> ImagePrepare:
    return ImagePrepare(size=size, crop=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def manifest_of(**said: Any) -> ModelManifest:
    """A manifest as a job writes it, with what is said."""
    fields: dict[str, Any] = {
        "model_id": new_id("mdl"),
        "job_id": new_id("job"),
        "temperature": 1.5,
        "base_model": "efficientnet_lite0",
        "architecture": {"builder": "timm", "name": "efficientnet_lite0", "width": 3},
        "lineage": ["efficientnet_lite0"],
        "method": {"name": "linear_probe"},
        "seed": 0,
        "data": [],
        "train_items": 60,
        "validation_items": 20,
        "held_out_items": 20,
        "metrics": [Metric(name="accuracy", value=0.9, n=20)],
        "parity": Parity(items=8, max_abs_difference=1e-6, tolerance=1e-4),
        "versions": {},
        "hardware": {},
        "seconds": 1.0,
        "licence": "Apache-2.0",
        "created_at": now(),
    }
    return ModelManifest(**(fields | said))


def _zip(files: dict[str, bytes]) -> tuple[bytes, list[ModelFile]]:
    buffer = io.BytesIO()
    members = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    raw = buffer.getvalue()
    with zipfile.ZipFile(buffer) as archive:
        for info in archive.infolist():
            start = info.header_offset
            extra = int.from_bytes(raw[start + 26 : start + 28], "little") + int.from_bytes(
                raw[start + 28 : start + 30], "little"
            )
            content = files[info.filename]
            members.append(
                ModelFile(
                    name=info.filename,
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    offset=start + 30 + extra,
                )
            )
    assert json.loads(files["manifest.json"])
    return raw, members
