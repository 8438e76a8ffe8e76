"""What items of tables are called, so that they can be paired with files."""

import pytest

from core.modality.table_names import item_names
from tests.modality.tables import csv_bytes, figures, items, reviews, run


def named(tmp_path, header, rows, **reading):
    return [item.name for item in run(tmp_path, csv_bytes(header, rows), **reading).manifest.items]


@pytest.mark.parametrize("column", ["file_name", "FileName", "file", "image", "path", "id"])
def test_texts_are_called_by_their_files(tmp_path, column):
    rows = [(f"a/{n:03}.png", text, label) for n, (text, label) in enumerate(reviews())]
    assert named(tmp_path, [column, "text", "label"], rows)[:2] == ["a/000.png", "a/001.png"]


def test_the_surest_column_counts(tmp_path):
    rows = [(n, f"{n:03}.png", text) for n, (text, _) in enumerate(reviews())]
    assert named(tmp_path, ["id", "file_name", "text"], rows)[5] == "005.png"
    assert named(tmp_path, ["id", "file_names", "text"], rows)[5] == "5"


def test_rows_of_figures_are_called_so_and_do_not_learn_from_it(tmp_path):
    rows = [[f"{n}.jpg", *row] for n, row in enumerate(figures())]
    found = run(tmp_path, csv_bytes(["image", "size", "colour", "new", "day", "bought"], rows))
    assert [item.name for item in found.manifest.items][:2] == ["0.jpg", "1.jpg"]
    assert {column.name: column.kind for column in found.manifest.columns}["image"] == "identifier"
    assert len(items(found)) == 40


def test_what_is_no_name_of_its_own_stays_a_place(tmp_path):
    """Empty, there twice, too long, not printable, or the place of another row."""
    odd = {3: "", 7: "x9.png", 20: "x" * 300, 21: "a\x7fb.png", 22: "row 2"}
    rows = [(odd.get(n, f"x{n}.png"), f"{n} {n} and so on, says customer {n}") for n in range(120)]
    found = named(tmp_path, ["file_name", "text"], rows)
    assert [found[n] for n in (2, 3, 7, 9, 20, 21, 22)] == [
        "x2.png", "row 4", "row 8", "row 10", "row 21", "row 22", "row 23"
    ]  # fmt: skip
    assert len(set(found)) == 120


def test_several_captions_of_an_image_have_no_name_in_common(tmp_path):
    rows = [(f"{n // 2}.png", f"{n} {n} and so on, says customer {n}") for n in range(40)]
    assert named(tmp_path, ["file_name", "caption"], rows, text="caption")[:2] == ["row 1", "row 2"]


def test_a_class_or_a_text_names_nothing(tmp_path):
    rows = [(f"{n} said by me to you", f"{n}") for n in range(40)]
    assert named(tmp_path, ["file", "id"], rows, text="file", target="id")[0] == "row 1"
    assert item_names(["row 1"], []) == ["row 1"]


def test_faults_name_rows_by_their_place(tmp_path):
    rows = [(f"{n}.png", text if n != 4 else "", label) for n, (text, label) in enumerate(reviews())]
    found = run(tmp_path, csv_bytes(["file_name", "text", "label"], rows))
    assert [fault.examples for fault in found.report.faults if fault.code == "empty_text"] == [["row 5"]]
    assert found.manifest.items[4].name == "5.png"


def test_short_captions_are_texts(tmp_path):
    rows = [(f"{n}.png", f"{['red', 'green', 'blue'][n % 3]} disc") for n in range(60)]
    found = run(tmp_path, csv_bytes(["file_name", "caption"], rows))
    assert (found.manifest.modality, len(found.manifest.items)) == ("text", 60)
