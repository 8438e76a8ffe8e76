"""Images whose labels stand in a table beside them."""

import polars as pl
import pytest

from tests.builders import folder_files, image_bytes, make_zip
from tests.modality.tables import codes, csv_bytes, jsonl_bytes, parquet_bytes, rejected, run

IMAGES = {f"images/{n:02d}.png": image_bytes(n) for n in range(30)}


def archive(table: bytes, name: str = "metadata.csv", prefix: str = "") -> bytes:
    return make_zip({f"{prefix}{path}": data for path, data in {**IMAGES, name: table}.items()}, deflate=True)


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv", "metadata.jsonl", "metadata.parquet"])
@pytest.mark.parametrize("prefix", ["", "my photos/"])
def test_classes(tmp_path, name, prefix):
    rows = [{"file_name": path, "label": "cat" if n % 2 else "dog"} for n, path in enumerate(IMAGES)]
    table = {
        "csv": lambda: csv_bytes(["file_name", "label"], [tuple(row.values()) for row in rows]),
        "jsonl": lambda: jsonl_bytes(rows),
        "parquet": lambda: parquet_bytes(pl.DataFrame(rows)),
    }[name.split(".")[1]]()
    found = run(tmp_path, archive(table, name, prefix))
    manifest = found.manifest
    assert (manifest.modality, manifest.problem, manifest.classes, manifest.target) == (
        "image",
        "classification",
        ["cat", "dog"],
        "label",
    )
    said = {prefix + row["file_name"]: row["label"] for row in rows}
    assert {item.name: manifest.classes[item.label] for item in manifest.items} == said
    assert found.report.faults == []


def test_several_labels_and_values(tmp_path):
    labels = [{"file_name": path, "labels": ["a", "b"][: n % 3]} for n, path in enumerate(IMAGES)]
    found = run(tmp_path, archive(jsonl_bytes(labels), "metadata.jsonl"))
    assert found.manifest.problem == "multi_label"
    assert {item.name: item.labels for item in found.manifest.items}["images/02.png"] == [0, 1]
    values = csv_bytes(["file_name", "value"], [(path, n * 2.5) for n, path in enumerate(IMAGES)])
    found = run(tmp_path, archive(values))
    assert (found.manifest.problem, found.manifest.classes) == ("regression", [])
    assert {item.name: item.value for item in found.manifest.items}["images/04.png"] == 10.0
    assert found.report.values == (0.0, 36.25, 72.5)


def test_names_and_files_without_a_partner(tmp_path):
    rows = [(path, "ab"[n % 2]) for n, path in enumerate(IMAGES)][:28]
    rows += [("images/99.png", "a"), ("../00.png", "a"), ("images/00.png", "b"), ("", "a")]
    found = run(tmp_path, archive(csv_bytes(["file_name", "label"], rows)))
    assert codes(found) == {"image_not_named": 2, "missing_image": 3, "file_named_twice": 1}
    assert len(found.manifest.items) == 28


def test_tables_in_the_folders_of_splits(tmp_path):
    files = {}
    for at, split in enumerate(("train", "test")):
        names = [f"{n}.png" for n in range(10)]
        files |= {f"{split}/{name}": image_bytes(n + 100 * at) for n, name in enumerate(names)}
        files[f"{split}/metadata.csv"] = csv_bytes(
            ["file_name", "label"], [(name, "ab"[n % 2]) for n, name in enumerate(names)]
        )
    found = run(tmp_path, make_zip(files))
    assert found.report.split_source == "mixed"
    assert {item.name.split("/")[0] for item in found.manifest.items if item.split == "test"} == {"test"}


def test_a_table_that_says_nothing_is_not_used(tmp_path):
    files = folder_files({"cat": 10, "dog": 10})
    captions = csv_bytes(["file_name", "caption"], [(path, f"a photo of an animal number {path}") for path in files])
    found = run(tmp_path, make_zip({**files, "metadata.csv": captions}))
    assert found.manifest.classes == ["cat", "dog"]
    assert codes(found) == {"metadata_unused": 1, "not_an_image": 1}


def test_what_is_asked_for_and_not_there(tmp_path):
    rows = csv_bytes(["file_name", "label"], [(path, "a") for path in IMAGES])
    assert rejected(tmp_path, archive(rows), target="lable").code == "unknown_column"
    assert rejected(tmp_path, make_zip(folder_files({"a": 5, "b": 5})), target="x").code == "wrong_reading"
    assert rejected(tmp_path, make_zip(folder_files({"a": 5, "b": 5})), modality="text").code == "wrong_reading"
    other = csv_bytes(["file_name", "label"], [("nothing.png", "a")] * 3)
    assert rejected(tmp_path, archive(other)).code == "no_images"
