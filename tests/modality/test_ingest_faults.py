"""Uploads -> reports: all faults at once, and clear refusals."""

import hashlib
import io
import zipfile
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from tests.builders import (
    encode,
    folder_files,
    folder_tar,
    folder_zip,
    image_bytes,
    image_pixels,
    make_tar,
    make_zip,
)
from tests.modality.ingesting import faults, rejected, run, splits

# Faults, all at once


def test_every_fault_is_told_at_once(tmp_path):
    good = folder_files({"cats": 30, "dogs": 4})
    big = encode(np.zeros((300, 300, 3), np.uint8))
    cut = image_bytes(900)[:-200]
    extra = {
        "cats/cut.png": cut,
        "cats/none.JPG": b"",
        "cats/huge.png": big,
        "cats/word.jpg": b"this is text",
        "dogs/notes.txt": b"about dogs",
        "README.md": b"hello",
        "cover.png": image_bytes(901),
        "__MACOSX/cats/._1.png": b"\0\5\x16\7",
        "dogs/.DS_Store": b"\0",
        "dogs/Thumbs.db": b"\0",
        "../evil.png": image_bytes(902),
        "birds/": b"",
        "fish/broken.png": cut,
        "mice/1.png": image_bytes(903),
        "cats/copy.png": good["cats/0000.png"],
        "cats/both.png": image_bytes(904),
        "dogs/both.png": image_bytes(904),
    }
    found = run(tmp_path, make_zip({**good, **extra}), max_pixels=50_000)
    got = {code: (fault.count, fault.severity) for code, fault in faults(found).items()}
    assert got == {
        "unreadable_image": (2, "warning"),
        "empty_file": (1, "warning"),
        "image_too_large": (1, "warning"),
        "unsupported_format": (1, "warning"),
        "not_an_image": (2, "warning"),
        "image_outside_class": (1, "warning"),
        "ignored_file": (3, "info"),
        "unsafe_path": (1, "warning"),
        "empty_class": (2, "warning"),
        "class_too_small": (1, "warning"),
        "duplicate_in_split": (1, "warning"),
        "conflicting_labels": (1, "warning"),
        "imbalance": (1, "info"),
    }
    assert faults(found)["empty_class"].examples == ["birds", "fish"]
    assert faults(found)["unreadable_image"].examples == ["cats/cut.png", "fish/broken.png"]
    assert all(fault.message and fault.remedy and fault.examples for fault in found.report.faults)
    assert found.manifest.classes == ["cats", "dogs", "mice"]
    assert {item.name for item in found.manifest.items} == {*good, "mice/1.png", "cats/copy.png"}
    assert found.report.files == len(good) + len(extra) - 1
    severities = [fault.severity for fault in found.report.faults]
    assert severities == sorted(severities, reverse=True)


def test_examples_stop_at_ten(tmp_path):
    extra = {f"a/{number}.txt": b"x" for number in range(25)}
    fault = faults(run(tmp_path, folder_zip({"a": 5, "b": 5}, extra=extra)))["not_an_image"]
    assert (fault.count, len(fault.examples)) == (25, 10)


def test_an_image_without_a_usual_name_is_still_one(tmp_path):
    extra = {"a/photo": image_bytes(50), "a/photo.orig": image_bytes(51), "a/notes": b"text"}
    for deflate in (False, True):
        found = run(tmp_path, folder_zip({"a": 5, "b": 5}, extra=extra, deflate=deflate))
        assert {"a/photo", "a/photo.orig"} < set(splits(found))
        assert faults(found)["not_an_image"].examples == ["a/notes"]


def test_wrong_checksum_in_a_zip(tmp_path):
    flat = {"a/odd.bmp": b""}
    buffer = io.BytesIO()
    Image.fromarray(image_pixels(7)).save(buffer, "BMP")
    flat["a/odd.bmp"] = buffer.getvalue()
    data = bytearray(folder_zip({"a": 5, "b": 5}, extra=flat))
    data[data.find(flat["a/odd.bmp"]) + 1000] ^= 1  # still a picture, but not the one that was packed
    found = run(tmp_path, bytes(data))
    assert faults(found)["damaged_entry"].examples == ["a/odd.bmp"]


def test_exact_copies_are_found_across_formats(tmp_path):
    pixels = image_pixels(70)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    extra = {"a/x.png": encode(pixels), "a/y.bmp": buffer.getvalue()}
    found = run(tmp_path, folder_zip({"a": 5, "b": 5}, extra=extra))
    assert faults(found)["duplicate_in_split"].examples == ["a/y.bmp = a/x.png"]
    turned = encode(np.ascontiguousarray(image_pixels(70, (16, 64)).reshape(32, 32, 3)))
    assert "duplicate_in_split" not in faults(
        run(tmp_path, folder_zip({"a": 5}, extra={"a/x.png": encode(image_pixels(70, (16, 64))), "a/y.png": turned}))
    )


def test_copies_stay_in_one_made_split(tmp_path):
    files = {
        f"{label}/{n}_{copy}.png": image_bytes(n, label=label) for label in (0, 1) for n in range(8) for copy in "xy"
    }
    for seed in range(5):
        where = defaultdict(set)
        for name, split in splits(run(tmp_path, make_zip(files), seed=seed)).items():
            where[name.split("_")[0]].add(split)
        assert all(len(found) == 1 for found in where.values())
        assert len(set().union(*where.values())) == 3


def test_copies_across_given_splits_leave_training(tmp_path):
    files = folder_files({"a": 6, "b": 6}, splits=["train", "val", "test"])
    leak = {
        "train/a/leak.png": files["test/a/0000.png"],
        "val/a/leak.png": files["test/a/0000.png"],
        "train/b/leak.png": files["val/b/0001.png"],
        "test/b/twice.png": files["test/b/0002.png"],
    }
    found = run(tmp_path, make_zip({**files, **leak}))
    assert set(splits(found)) == {*files, "test/b/twice.png"}
    assert faults(found)["duplicate_across_splits"].count == 3
    assert "train/a/leak.png = test/a/0000.png" in faults(found)["duplicate_across_splits"].examples
    assert faults(found)["duplicate_in_split"].count == 1
    held_out = {item.sha256 for item in found.manifest.items if item.split != "train"}
    assert not held_out & {item.sha256 for item in found.manifest.items if item.split == "train"}


def test_no_pixels_are_shared_between_splits_with_a_carved_validation(tmp_path):
    files = folder_files({"a": 10, "b": 10}, splits=["train", "val"])
    copies = {f"train/a/copy{n}.png": files["train/a/0000.png"] for n in range(5)}
    leaks = {f"train/a/leak{n}.png": files[f"val/a/000{n}.png"] for n in range(3)}
    found = run(tmp_path, make_zip({**files, **copies, **leaks}))
    where = defaultdict(set)
    for item in found.manifest.items:
        where[item.sha256].add(item.split)
    assert all(len(each) == 1 for each in where.values())
    assert faults(found)["duplicate_across_splits"].count == 3


def test_class_warnings(tmp_path):
    one = faults(run(tmp_path, folder_zip({"cats": 8}, splits=["train"])))
    assert "single_class" in one
    tiny = run(tmp_path, folder_zip({"a": 1, "b": 2}))
    assert faults(tiny)["class_too_small"].examples == ["a: 1", "b: 2"]
    assert faults(tiny)["empty_split"].examples == ["validation"]
    only_test = {"test/c/1.png": image_bytes(77)}
    found = run(tmp_path, folder_zip({"a": 5, "b": 5}, splits=["train", "test"], extra=only_test))
    assert faults(found)["class_without_training"].examples == ["c"]


def test_unicode_spellings_of_a_class_are_one(tmp_path):
    files = {
        f"{name}/{n}.png": image_bytes(n, label=len(name)) for name in ("caf\u00e9", "cafe\u0301") for n in range(4)
    }
    files |= {f"tea/{n}.png": image_bytes(n, label=9) for n in range(4)}
    found = run(tmp_path, make_zip(files))
    assert found.manifest.classes == ["caf\u00e9", "tea"]
    # Names that are one after normalising: the last is taken, and it is said.
    assert faults(found)["duplicate_name"].count == 4


def test_repeated_names(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for seed, name in enumerate(["a/1.png", "a/2.png", "b/1.png"]):
            archive.writestr(name, image_bytes(seed))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", image_bytes(3))
    found = run(tmp_path, buffer.getvalue())
    assert faults(found)["duplicate_name"].examples == ["a/1.png"]
    item = next(item for item in found.manifest.items if item.name == "a/1.png")
    assert item.sha256 == hashlib.sha256(image_bytes(3)).hexdigest()


def test_the_report_gives_sizes_as_they_are_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(buffer, "JPEG", exif=exif)
    files = {"a/1.jpg": buffer.getvalue(), "a/2.png": image_bytes(0, (30, 30)), "b/1.png": image_bytes(1, (90, 10))}
    found = run(tmp_path, make_zip(files))
    assert (found.report.width, found.report.height) == ((20, 30, 90), (10, 30, 40))


# Refusals


def test_no_images(tmp_path):
    for data in (make_zip({}), make_tar({}), make_zip({"a/readme.md": b"x", "b/data.doc": b"y"})):
        assert rejected(tmp_path, data).code == "no_images"
    error = rejected(tmp_path, make_zip({"a/readme.md": b"x"}))
    assert faults(error)["not_an_image"].count == 1
    assert error.report.files == 1


def test_only_contradictions(tmp_path):
    same = image_bytes(0)
    error = rejected(tmp_path, make_zip({"a/1.png": same, "b/1.png": same}))
    assert error.code == "no_images"
    assert "conflicting_labels" in faults(error)


def test_mostly_unreadable(tmp_path):
    bad = {f"a/bad{n}.jpg": b"junk" for n in range(5)}
    assert run(tmp_path, folder_zip({"a": 3, "b": 2}, extra=bad)).report.items == 5
    error = rejected(tmp_path, folder_zip({"a": 2, "b": 2}, extra=bad))
    assert error.code == "mostly_unreadable"
    assert error.details == {"images": 9, "unreadable": 5}
    assert faults(error)["unsupported_format"].count == 5
    for gz in (False, True):
        assert rejected(tmp_path, folder_tar({"a": 2}, extra=bad, gz=gz)).code == "mostly_unreadable"


def test_too_many_classes(tmp_path):
    classes = {f"c{n}": 1 for n in range(11)}
    assert rejected(tmp_path, folder_zip(classes), max_classes=10).code == "too_many_classes"
    assert len(run(tmp_path, folder_zip(classes), max_classes=11).manifest.classes) == 11


@pytest.mark.parametrize(
    ("make", "limits", "code"),
    [
        (lambda: image_bytes(0), {}, "not_an_archive"),
        (lambda: folder_zip({"a": 5})[:-30], {}, "unreadable_archive"),
        (lambda: make_zip({"a/1.png": bytes(5_000_000)}, deflate=True), {}, "archive_bomb"),
        (lambda: make_tar({"a/1.png": bytes(9_000_000)}, gz=True), {}, "archive_bomb"),
        (lambda: folder_zip({"a": 5}), {"max_entries": 4}, "too_many_entries"),
        (lambda: folder_zip({"a": 5}), {"max_unpacked_bytes": 4000}, "archive_too_large"),
    ],
)
def test_archive_failures_carry_a_report(tmp_path, make, limits, code):
    assert rejected(tmp_path, make(), **limits).code == code
