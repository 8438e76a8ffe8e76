"""Whole jobs on texts: from a table to a bundle that answers by itself, and from that bundle to the next model."""

import csv
import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core.bundle import read_member
from core.contract.datasets import DatasetManifest
from core.contract.methods import FineTune, LinearProbe
from core.modality.preparers import preparer
from tests.engine.jobs import Workshop
from tests.engine.texts import NAME, lay_down, tokenizer
from worker.engine.backbones import open_base
from worker.engine.door import DataRef, Result
from worker.engine.sessions import open_session


def _table(rows: int = 120) -> bytes:
    """Texts that are good or bad, which even a random encoder can tell."""
    draw = random.Random(0)
    file = io.StringIO()
    out = csv.writer(file)
    out.writerow(["text", "label"])
    for number in range(rows):
        said = "good" if number % 2 else "bad"
        words = [*draw.choices(["the", "a", "book", "film", "is", "very", "."], k=draw.randint(1, 9)), said, said]
        draw.shuffle(words)
        out.writerow([f"{' '.join(words)} {number}", said])
    return file.getvalue().encode()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    found = Workshop(tmp_path_factory.mktemp("shop"))
    lay_down(found.weights)
    return found


@pytest.fixture(scope="module")
def source(shop: Workshop) -> DataRef:
    return shop.data(_table())


@pytest.fixture(scope="module")
def probe(shop: Workshop, source: DataRef) -> Result:
    return shop.run(LinearProbe(), source, base_model=NAME)


def _accuracy(result: Result) -> float:
    assert result.manifest is not None
    return result.manifest.metrics[0].value


def _texts(source: DataRef) -> list[str]:
    manifest = DatasetManifest.model_validate_json(source.manifest.read_bytes())
    content = source.content.read_bytes()
    return [content[item.offset : item.offset + item.length].decode() for item in manifest.items]


def test_a_probe_on_texts_learns_and_its_bundle_answers_as_torch_does(
    probe: Result, shop: Workshop, source: DataRef, tmp_path: Path
) -> None:
    manifest = probe.manifest
    assert manifest is not None
    assert probe.bundle is not None
    assert (manifest.modality, manifest.input_names) == ("text", ["input_ids", "attention_mask"])
    assert _accuracy(probe) > 0.8
    assert read_member(probe.bundle, "tokenizer.json") == tokenizer()
    (tmp_path / "model.onnx").write_bytes(read_member(probe.bundle, "model.onnx"))
    session, prepare = open_session(tmp_path / "model.onnx"), preparer(manifest.prepare, tokenizer())
    texts = _texts(source)[:50]
    feed = dict(zip(prepare.names, prepare.collate([prepare(text) for text in texts]), strict=True))
    probabilities, embedding = session.run(["probabilities", "embedding"], feed)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    module = open_base(NAME, weights_dir=shop.weights).backbone().module
    with torch.no_grad():
        expected = module(*(torch.from_numpy(feed[name]) for name in prepare.names)).numpy()
    assert np.abs(embedding - expected).max() < 1e-5


def test_a_bundle_is_a_base_model_without_the_files_it_came_from(
    probe: Result, shop: Workshop, source: DataRef, tmp_path: Path
) -> None:
    assert probe.manifest is not None
    base = open_base(probe.manifest.model_id, weights_dir=tmp_path, parent=probe.bundle)
    before = open_base(NAME, weights_dir=shop.weights)
    assert base.identity.weights_digest == before.identity.weights_digest
    assert base.identity.key == before.identity.key
    assert base.tokenizer == tokenizer()
    assert base.identity.lineage == [probe.manifest.model_id, NAME]
    text = "a very good film ."
    assert all(np.array_equal(a, b) for a, b in zip(base.preparer()(text), before.preparer()(text), strict=True))


def test_a_bundle_with_another_tokenizer_is_refused(probe: Result, tmp_path: Path) -> None:
    assert probe.manifest is not None
    assert probe.bundle is not None
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(probe.bundle) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"film", b"play") if name == "tokenizer.json" else data)
    with pytest.raises(Exception, match=r"tokenizer\.json is damaged"):
        open_base(probe.manifest.model_id, weights_dir=None, parent=broken)


def test_texts_are_fine_tuned_and_the_next_job_starts_from_the_outcome(shop: Workshop, source: DataRef) -> None:
    first = shop.run(FineTune(epochs=2, batch_size=16), source, base_model=NAME)
    assert first.manifest is not None
    assert first.bundle is not None
    assert _accuracy(first) > 0.8
    assert json.loads(read_member(first.bundle, "manifest.json"))["architecture"]["config"]["model_type"] == "bert"
    kept = shop.root / "parent.zip"
    shutil.copy(first.bundle, kept)
    second = shop.run(LinearProbe(), source, base_model=first.manifest.model_id, parent=kept)
    assert second.manifest is not None
    assert second.manifest.lineage == [first.manifest.model_id, NAME]
    assert _accuracy(second) > 0.8
