"""A bundle is an ordinary zip whose members can also be served by their offsets."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from core.bundle import members, read_member, write_bundle
from core.contract.errors import JobError
from worker.engine.heads import Head
from worker.engine.tensors import join_tensors


def _files(folder: Path) -> dict[str, Path | bytes]:
    large = folder / "large.bin"
    large.write_bytes(np.random.default_rng(0).bytes(5 * 1024 * 1024 + 7))
    return {"model.onnx": large, "manifest.json": b"{}", "README.md": "# Größe\n".encode(), "empty": b""}


def test_members_lie_where_the_books_say(tmp_path: Path) -> None:
    files = _files(tmp_path)
    out = tmp_path / "bundle.zip"
    write_bundle(out, files)
    listed = members(out)
    assert [member.name for member in listed] == list(files)
    whole = out.read_bytes()
    for member in listed:
        content = files[member.name]
        expected = content if isinstance(content, bytes) else content.read_bytes()
        assert whole[member.offset : member.offset + member.bytes] == expected
        assert member.sha256 == hashlib.sha256(expected).hexdigest()
        assert read_member(out, member.name) == expected
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    files = _files(tmp_path)
    write_bundle(tmp_path / "one.zip", files)
    write_bundle(tmp_path / "two.zip", files)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut"])
def test_a_damaged_bundle_says_so(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "bundle.zip"
    write_bundle(out, {"manifest.json": b'{"version": 1}'})
    (member,) = members(out)
    whole = bytearray(out.read_bytes())
    if damage == "flipped":
        whole[member.offset] ^= 1
    out.write_bytes(whole[:20] if damage == "cut" else whole)
    with pytest.raises(JobError) as caught:
        read_member(out, "other.json" if damage == "missing" else "manifest.json")
    assert caught.value.code == "bundle_unreadable"
    assert caught.value.hint


def test_tensors_of_backbone_and_head_become_one_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    backbone = {
        "backbone.conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "backbone.bn.num_batches_tracked": np.array(7, dtype=np.int64),
    }
    save_file(backbone, tmp_path / "backbone.safetensors", metadata={"old": "note"})
    bias, mean, scale = (rng.uniform(1, 2, size).astype(np.float32) for size in (3, 5, 5))
    head = Head(rng.normal(size=(3, 5)).astype(np.float32), bias, "standardise", mean, scale)
    join_tensors(tmp_path / "backbone.safetensors", head, tmp_path / "model.safetensors", {"format": "pt"})
    found = load_file(tmp_path / "model.safetensors")
    expected = backbone | {f"head.{name}": array for name, array in head.tensors().items()}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
