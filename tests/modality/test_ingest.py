"""Uploads -> manifests and reports: class folders, splits, copies, progress."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from core.modality.errors import StoppedError
from core.modality.faults import KINDS, FaultBook
from core.modality.reader import DatasetReader
from tests.builders import (
    digits_zip,
    flat_zip,
    folder_files,
    folder_tar,
    folder_zip,
    image_bytes,
    image_pixels,
    make_zip,
)
from tests.modality.ingesting import faults, run, splits

# The usual uploads


def test_class_folders(tmp_path):
    files = folder_files({"dogs": 10, "cats": 20}, format="JPEG")
    data = make_zip(files)
    found = run(tmp_path, data)
    manifest, report = found.manifest, found.report
    assert found.content is None
    assert manifest.content_sha256 == hashlib.sha256(data).hexdigest()
    assert manifest.classes == ["cats", "dogs"]
    assert {item.name for item in manifest.items} == set(files)
    assert all(item.sha256 == hashlib.sha256(files[item.name]).hexdigest() for item in manifest.items)
    assert all(manifest.classes[item.label] == item.name.split("/")[0] for item in manifest.items)
    assert [item.name for item in manifest.items] == sorted(files)
    assert report.faults == []
    assert (report.files, report.items, report.labelled, report.split_source) == (30, 30, True, "made")
    assert [(row.name, row.train, row.validation, row.test) for row in report.classes] == [
        ("cats", 14, 3, 3),
        ("dogs", 6, 2, 2),
    ]
    assert report.splits == {"train": 20, "validation": 5, "test": 5}
    assert report.width == report.height == (32, 32, 32)
    assert 0 < report.seconds < 10


def test_same_upload_same_manifest(tmp_path):
    data = folder_zip({"a": 12, "b": 12})
    first, again, other = (run(tmp_path, data, seed=seed) for seed in (5, 5, 6))
    assert first.manifest == again.manifest
    assert splits(first) != splits(other)
    backwards = make_zip(dict(reversed(folder_files({"a": 12, "b": 12}).items())))
    assert splits(run(tmp_path, backwards, seed=5)) == splits(first)
    tar = run(tmp_path, folder_tar({"a": 12, "b": 12}), seed=5)
    assert splits(tar) == splits(first)


def test_moving_an_item_between_splits_does_not_move_it_in_the_manifest(tmp_path):
    names = [f"{label}/{n}.png" for label in "ab" for n in range(4)]
    order = []
    for held_out in ({"a/0.png", "b/3.png"}, {"a/2.png", "a/3.png", "b/0.png"}):
        files = {f"{'test' if name in held_out else 'train'}/{name}": image_bytes(n) for n, name in enumerate(names)}
        items = run(tmp_path, make_zip(files)).manifest.items
        order.append([item.name.split("/", 1)[1] for item in items])
    assert order == [names, names]


def test_compressed_tar_becomes_a_new_content_file(tmp_path):
    found = run(tmp_path, folder_tar({"a": 5, "b": 5}, gz=True))
    assert found.content is not None
    assert found.manifest.content_sha256 == hashlib.sha256(found.content.read_bytes()).hexdigest()
    with DatasetReader(found.manifest, found.content) as reader:
        assert np.array_equal(np.asarray(reader.image(0)), image_pixels(0))


def test_flat_folder_is_unlabelled(tmp_path):
    for prefix in ("", "my photos/"):
        found = run(tmp_path, flat_zip(20, prefix=prefix))
        assert found.manifest.classes == []
        assert not found.report.labelled
        assert {item.label for item in found.manifest.items} == {None}
        assert found.report.splits == {"train": 14, "validation": 3, "test": 3}
        assert faults(found)["unlabelled"].severity == "info"
        assert list(faults(found)) == ["unlabelled"]


def test_given_splits(tmp_path):
    found = run(tmp_path, folder_zip({"a": 6, "b": 6}, splits=["train", "val", "test"], prefix="set"))
    assert found.report.split_source == "given"
    assert all(
        split == {"val": "validation"}.get(n.split("/")[1], n.split("/")[1]) for n, split in splits(found).items()
    )
    assert found.report.faults == []


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_train_and_one_more_split(tmp_path, held_out):
    found = run(tmp_path, folder_zip({"a": 20, "b": 20}, splits=["train", held_out]))
    assert found.report.split_source == "mixed"
    assert found.report.splits == {"train": 34, "validation": 6, "test": 40}
    assert all((split == "test") == name.startswith(held_out) for name, split in splits(found).items())


@pytest.mark.parametrize("only", ["train", "test"])
def test_a_single_split_is_shared_out(tmp_path, only):
    found = run(tmp_path, folder_zip({"a": 20, "b": 20}, splits=[only]))
    assert found.report.split_source == "made"
    assert found.report.splits == {"train": 28, "validation": 6, "test": 6}
    assert "given_splits_ignored" in faults(found)


def test_digits_are_all_taken(tmp_path):
    found = run(tmp_path, digits_zip())
    assert found.report.items == 1797
    assert found.report.splits == {"train": 1259, "validation": 269, "test": 269}
    assert all(row.test >= 26 for row in found.report.classes)


# Progress and stopping


def test_progress_rises_to_one(tmp_path):
    told = []
    run(tmp_path, folder_zip({"a": 40, "b": 40}), on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 4


@pytest.mark.parametrize("gz", [False, True])
def test_stopping_leaves_nothing_behind(tmp_path, gz):
    calls = Counter()

    def should_stop():
        calls["asked"] += 1
        return calls["asked"] > 3

    with pytest.raises(StoppedError):
        run(tmp_path, folder_tar({"a": 80}, gz=gz), should_stop=should_stop)
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]

    def lost(_share):
        raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        run(tmp_path, folder_tar({"a": 5}, gz=gz), on_progress=lost)
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


def test_the_fault_menu_is_complete():
    assert all(kind.message.endswith(".") and kind.remedy.endswith(".") for kind in KINDS.values())
    with pytest.raises(KeyError):
        FaultBook().add("no_such_fault", "x")
