"""Uploads of which only some items have a label: what new domains look like."""

from collections import Counter

import polars as pl
import pytest

from tests.builders import image_bytes, make_zip
from tests.modality import ingesting
from tests.modality.tables import codes, csv_bytes, figures, items, jsonl_bytes, parquet_bytes, reviews, run


def labels(found):
    """The class of each item by its name; None where it has none."""
    classes = found.manifest.classes
    return {item.name: None if item.label is None else classes[item.label] for item in found.manifest.items}


def folders(**counts):
    names = [f"{folder}/{n}.png" for folder, count in counts.items() for n in range(count)]
    return {name: image_bytes(at) for at, name in enumerate(names)}


def test_texts_with_empty_cells_are_kept_without_a_label(tmp_path):
    rows = [(text, label if n % 4 == 0 else ["", " ", "NA"][n % 3]) for n, (text, label) in enumerate(reviews(80))]
    found = run(tmp_path, csv_bytes(["text", "label"], rows))
    assert (len(found.manifest.items), found.manifest.classes) == (80, ["bad"])  # every fourth is even
    assert Counter(labels(found).values()) == {None: 60, "bad": 20}
    assert (found.report.labelled, found.report.unlabelled) == (True, 60)
    assert items(found) == [text for text, _ in rows]
    assert codes(found)["unlabelled_item"] == 60
    assert "missing_target" not in codes(found)
    fault = ingesting.faults(found)["unlabelled_item"]
    assert fault.severity == "info"
    assert fault.examples[0] == "row 2"
    assert "`target`" in fault.remedy


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_in_any_form(tmp_path, form):
    names = ["size", "colour", "new", "day", "kind"]
    rows = [[*row[:-1], n % 3 if n < 24 else None] for n, row in enumerate(figures(60))]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    data = {
        "csv": lambda: csv_bytes(names, rows),
        "jsonl": lambda: jsonl_bytes(records),
        "parquet": lambda: parquet_bytes(pl.DataFrame(records)),
    }[form]()
    found = run(tmp_path, data, target="kind")
    assert (found.manifest.modality, found.manifest.problem) == ("tabular", "classification")
    assert found.manifest.classes == ["0", "1", "2"]
    assert [item.label for item in found.manifest.items] == [n % 3 if n < 24 else None for n in range(60)]
    assert (found.report.unlabelled, codes(found)["unlabelled_item"]) == (36, 36)


def test_the_others_stand_where_they_would_alone(tmp_path):
    """Splits of labelled items do not depend on the unlabelled, and none of these is measured on."""
    rows = [(text, label if n % 3 else "") for n, (text, label) in enumerate(reviews(90))]
    alone = run(tmp_path, csv_bytes(["text", "label"], [row for row in rows if row[1]]))
    found = run(tmp_path, csv_bytes(["text", "label"], rows))
    known = [item for item in found.manifest.items if item.label is not None]
    assert [(item.sha256, item.label, item.split) for item in known] == [
        (item.sha256, item.label, item.split) for item in alone.manifest.items
    ]
    assert {item.split for item in found.manifest.items if item.label is None} == {"train"}
    assert found.report.classes == alone.report.classes
    assert {"train", "validation", "test"} == {item.split for item in known}


def test_given_splits_are_kept_for_the_labelled(tmp_path):
    parts = ["train", "test"]
    rows = [(text, label if n % 5 else "", parts[n % 2]) for n, (text, label) in enumerate(reviews(80))]
    found = run(tmp_path, csv_bytes(["text", "label", "split"], rows))
    tested = {item.name for item in found.manifest.items if item.split == "test"}
    assert tested == {f"row {n + 1}" for n in range(80) if n % 2 and n % 5}


def test_copies_of_labelled_items_do_no_harm(tmp_path):
    """A copy without a label contradicts none, and takes none out of the training split."""
    rows = [(text, label, "test" if n % 4 == 0 else "train") for n, (text, label) in enumerate(reviews())]
    more = [(rows[1][0], "", "test"), (rows[4][0], "", "train")]  # copies of a training and of a test item
    found = run(tmp_path, csv_bytes(["text", "label", "split"], [*rows, *more]))
    assert "conflicting_labels" not in codes(found)
    named = {item.name: item for item in found.manifest.items}
    assert (named["row 2"].split, named["row 2"].label) == ("train", 1)
    assert (named["row 5"].split, named["row 5"].label) == ("test", 0)
    assert (named["row 41"].split, named["row 41"].label) == ("train", None)
    assert "row 42" not in named  # it would be learnt from, and it is measured on


def test_labels_that_are_wrong_are_left_out_as_ever(tmp_path):
    rows = [(n * 0.3, "z" * 300 if n == 0 else ["", "a", "b"][n % 3]) for n in range(60)]
    found = run(tmp_path, csv_bytes(["x", "y"], rows))
    assert (codes(found)["unprintable_label"], codes(found)["unlabelled_item"]) == (1, 19)
    assert len(found.manifest.items) == 59


def test_a_number_to_predict_is_not_left_open(tmp_path):
    rows = [(n * 0.3, "" if n < 5 else n * 1.5) for n in range(60)]
    found = run(tmp_path, csv_bytes(["x", "y"], rows), problem="regression")
    assert codes(found) == {"missing_target": 5}
    assert (len(found.manifest.items), found.report.unlabelled) == (55, 0)


def test_no_label_at_all_is_refused_as_ever(tmp_path):
    rows = [(text, "") for text, _ in reviews()]
    error = ingesting.rejected(tmp_path, csv_bytes(["text", "label"], rows))
    assert "missing_target" in codes(error)


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "Unlabelled"])
@pytest.mark.parametrize("prefix", ["", "new camera/"])
def test_a_folder_of_images_without_a_label(tmp_path, name, prefix):
    files = {prefix + path: data for path, data in folders(**{"cats": 6, "dogs": 6, name: 8}).items()}
    found = ingesting.run(tmp_path, make_zip(files))
    assert found.manifest.classes == ["cats", "dogs"]
    said = {path: None if name in path else path.split("/")[-2] for path in files}
    assert labels(found) == said
    assert {item.split for item in found.manifest.items if item.label is None} == {"train"}
    assert (found.report.unlabelled, found.report.splits["test"]) == (8, 2)
    assert ingesting.faults(found)["unlabelled_item"].count == 8


def test_such_a_folder_within_splits_or_with_folders_in_it(tmp_path):
    files = folders(**{"train/a": 4, "train/b": 4, "train/unlabelled": 5, "test/a": 2, "test/b": 2})
    found = ingesting.run(tmp_path, make_zip(files))
    assert (found.manifest.classes, found.report.unlabelled) == (["a", "b"], 5)
    assert found.report.split_source == "mixed"
    files = folders(**{"a": 4, "b": 4, "unlabelled/monday": 3, "unlabelled/tuesday": 2})
    found = ingesting.run(tmp_path, make_zip(files))
    assert (found.manifest.classes, found.report.unlabelled) == (["a", "b"], 5)


def test_alone_it_is_a_folder_like_any(tmp_path):
    found = ingesting.run(tmp_path, make_zip(folders(unlabelled=6)))
    assert (found.manifest.labelled, found.report.unlabelled) == (False, 0)
    assert "unlabelled" in ingesting.faults(found)


def test_images_named_by_a_table_with_empty_cells(tmp_path):
    images = {f"images/{n:02d}.png": image_bytes(n) for n in range(24)}
    rows = [(path, ["", "cat", "dog"][n % 3]) for n, path in enumerate(images)]
    files = {**images, "metadata.csv": csv_bytes(["file_name", "label"], rows)}
    found = ingesting.run(tmp_path, make_zip(files))
    assert labels(found) == {path: label or None for path, label in rows}
    assert codes(found) == {"unlabelled_item": 8}
