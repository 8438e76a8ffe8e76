"""Tables -> texts, rows, classes, several labels, numbers; as they are understood without a word and with one."""

import gzip
import hashlib
import json
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.modality.reader import DatasetReader
from tests.builders import make_tar, make_zip
from tests.modality.tables import (
    FIGURES,
    codes,
    csv_bytes,
    figures,
    items,
    jsonl_bytes,
    kinds,
    parquet_bytes,
    reviews,
    run,
)

TEXTS = csv_bytes(["text", "label"], reviews())
ROWS = csv_bytes(FIGURES, figures())


# Modalities and formats


def test_texts(tmp_path):
    found = run(tmp_path, TEXTS)
    manifest, report = found.manifest, found.report
    assert (manifest.modality, manifest.problem, manifest.target) == ("text", "classification", "label")
    assert manifest.classes == ["bad", "good"]
    assert items(found) == [text for text, _ in reviews()]
    assert [manifest.classes[item.label] for item in manifest.items] == [label for _, label in reviews()]
    assert [item.name for item in manifest.items][:3] == ["row 1", "row 2", "row 3"]
    assert manifest.content_sha256 == hashlib.sha256(found.content.read_bytes()).hexdigest()
    assert report.faults == []
    assert report.splits == {"train": 28, "validation": 6, "test": 6}
    assert report.characters == tuple(sorted(len(text) for text, _ in reviews())[n] for n in (0, 20, -1))


def test_rows(tmp_path):
    found = run(tmp_path, ROWS)
    assert (found.manifest.modality, found.manifest.problem) == ("tabular", "classification")
    assert kinds(found) == {"size": "number", "colour": "category", "new": "boolean", "day": "date"}
    assert found.manifest.columns == found.report.columns
    assert items(found)[:2] == [
        {"size": 0.0, "colour": "blue", "new": True, "day": "2024-01-01"},
        {"size": 1.5, "colour": "red", "new": False, "day": "2024-01-02"},
    ]
    assert found.report.target == "bought"
    assert codes(found) == {"target_guessed": 1}


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolons", "gz", "zip", "tar.gz", "jsonl", "array", "parquet"])
def test_every_format_says_the_same(tmp_path, form):
    rows = [dict(zip(FIGURES, row, strict=True)) for row in figures()]
    data = {
        "csv": lambda: ROWS,
        "tsv": lambda: csv_bytes(FIGURES, figures(), "\t"),
        "semicolons": lambda: csv_bytes(FIGURES, figures(), ";").replace(b".", b","),
        "gz": lambda: gzip.compress(ROWS),
        "zip": lambda: make_zip({"my/data.csv": ROWS, "read.me": b"hello"}, deflate=True),
        "tar.gz": lambda: make_tar({"data.csv.gz": gzip.compress(ROWS)}, gz=True),
        "jsonl": lambda: jsonl_bytes(rows),
        "array": lambda: json.dumps(rows).encode(),
        "parquet": lambda: parquet_bytes(pl.DataFrame(rows).with_columns(day=pl.col("day").str.to_date())),
    }[form]()
    found, plain = run(tmp_path, data), run(tmp_path, ROWS)
    assert items(found) == items(plain)
    assert found.manifest.items == plain.manifest.items
    assert kinds(found) == kinds(plain)
    assert [path.suffix for path in tmp_path.iterdir() if path.name != "upload"] == [".items"] * 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_with_a_mark_or_zeros(tmp_path, encoding):
    rows = [(f"Größe und Maß sind für Kunde {n} gut – «ja»", n % 2) for n in range(20)]
    found = run(tmp_path, csv_bytes(["text", "label"], rows).decode().encode(encoding))
    assert items(found) == [text for text, _ in rows]
    assert "not_utf8" not in codes(found)


def test_latin_1_is_read_and_said(tmp_path):
    rows = [(f"Größe und Maß sind für Kunde {n} \x91gut\x92", n % 2) for n in range(20)]
    found = run(tmp_path, csv_bytes(["text", "label"], rows).decode().encode("latin-1"))
    assert items(found)[0] == "Größe und Maß sind für Kunde 0 ‘gut’"
    assert codes(found)["not_utf8"] == 1


def test_without_labels(tmp_path):
    for data in (csv_bytes(["id", "text"], [(n, text) for n, (text, _) in enumerate(reviews())]), TEXTS):
        found = run(tmp_path, data, target=None if data is not TEXTS else "none")
        assert not found.manifest.labelled
        assert found.manifest.classes == []
        assert {item.label for item in found.manifest.items} == {None}
        assert "unlabelled" in codes(found)


def test_files_of_splits(tmp_path):
    parts = [csv_bytes(["text", "label"], reviews()[at::3]) for at in range(3)]
    files = dict(zip(["d/train.csv", "d/val.csv", "d/test-00000-of-00001.csv"], parts, strict=True))
    found = run(tmp_path, make_zip(files))
    assert found.report.split_source == "given"
    assert found.report.splits == {"train": 14, "validation": 13, "test": 13}
    assert {item.name: item.split for item in found.manifest.items}["d/val.csv row 2"] == "validation"


def test_a_split_column(tmp_path):
    words = ["train", "Train", "test", "valid"]
    rows = [(*row, words[n % 4]) for n, row in enumerate(reviews())]
    found = run(tmp_path, csv_bytes(["text", "label", "split"], rows))
    assert found.report.splits == {"train": 20, "validation": 10, "test": 10}
    named = run(
        tmp_path, csv_bytes(["text", "label", "part"], [*rows, ("a text of no part at all", "bad", "x")]), split="part"
    )
    assert named.report.splits == found.report.splits
    assert codes(named) == {"unknown_split": 1}


# Problems


def test_regression(tmp_path):
    rows = [(n / 7, n % 5, n * 1.25) for n in range(100)]
    found = run(tmp_path, csv_bytes(["a", "b", "price"], rows))
    assert (found.manifest.problem, found.manifest.classes) == ("regression", [])
    assert [item.value for item in found.manifest.items] == [value for *_, value in rows]
    assert found.report.values == (0.0, 61.875, 123.75)
    tests = [item.value for item in found.manifest.items if item.split == "test"]
    assert len(tests) == 20  # two of each tenth of the values
    assert min(tests) < 12.5
    assert max(tests) > 112.5


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([n % 3 for n in range(60)], "classification"),
        ([n * 10 for n in range(60)], "regression"),
        ([n / 10 for n in range(60)], "regression"),
        ([n % 30 for n in range(600)], "classification"),
        ([n % 12 + 0.5 for n in range(60)], "regression"),
        (["a|b" if n % 2 else "c" for n in range(60)], "multi_label"),
        (["a;b" if n % 2 else "c" for n in range(60)], "multi_label"),
        (["['a', 'b']" if n % 2 else "[]" for n in range(60)], "multi_label"),
        (["True" if n % 2 else "False" for n in range(60)], "classification"),
    ],
)
def test_the_problem_is_seen_in_the_target(tmp_path, cells, problem):
    found = run(tmp_path, csv_bytes(["x", "target"], [(n + 0.5, cell) for n, cell in enumerate(cells)]))
    assert found.manifest.problem == problem


def test_the_problem_that_is_said_counts(tmp_path):
    data = csv_bytes(["x", "target"], [(n + 0.5, n % 3) for n in range(60)])
    found = run(tmp_path, data, problem="regression")
    assert [item.value for item in found.manifest.items][:3] == [0.0, 1.0, 2.0]


def test_classes_that_are_numbers_are_ordered_as_such(tmp_path):
    found = run(tmp_path, csv_bytes(["x", "y"], [(n + 0.5, n % 12) for n in range(60)]))
    assert found.manifest.classes == [str(n) for n in range(12)]
    assert codes(found) == {"numbers_as_classes": 1}


def test_several_labels(tmp_path):
    rows = [{"text": text, "labels": [["a"], ["b", "a"], []][n % 3]} for n, (text, _) in enumerate(reviews(60))]
    cells = [["1", "0"], ["1", "1"], ["0", "0"]]
    flat = csv_bytes(["text", "a", "b"], [(row["text"], *cells[n % 3]) for n, row in enumerate(rows)])
    for found in (run(tmp_path, jsonl_bytes(rows)), run(tmp_path, flat, target="a,b")):
        assert (found.manifest.problem, found.manifest.classes) == ("multi_label", ["a", "b"])
        assert [item.labels for item in found.manifest.items][:3] == [[0], [0, 1], []]
        assert [(row.name, row.total) for row in found.report.classes] == [("a", 40), ("b", 20)]
        assert all(row.test >= 3 for row in found.report.classes)


# Columns


def test_kinds_of_columns(tmp_path):
    rows = [
        {
            "order_id": f"A{n:05d}",
            "plz": f"0{n % 7}123",
            "price": [1, 2.5, None, "NA"][n % 4],
            "flag": n % 2 == 0,
            "seen": f"{n % 28 + 1:02d}.03.2024 10:00",
            "same": "x",
            "nothing": None,
            "note": reviews(60)[n][0],
            "label": n % 2,
        }
        for n in range(60)
    ]
    found = run(tmp_path, csv_bytes(list(rows[0]), [list(row.values()) for row in rows]), modality="tabular")
    assert kinds(found) == {
        "order_id": "identifier",
        "plz": "category",
        "price": "number",
        "flag": "boolean",
        "seen": "date",
        "same": "constant",
        "nothing": "constant",
        "note": "text",
    }
    columns = {column.name: column for column in found.report.columns}
    assert columns["price"].missing == 0.5
    assert columns["plz"].distinct == 7
    first = items(found)[0]
    assert (first["plz"], first["price"], first["seen"]) == ("00123", 1, "2024-03-01T10:00:00")
    assert items(found)[2]["price"] is None


def test_types_of_parquet(tmp_path):
    frame = pl.DataFrame(
        {
            "small": pl.Series(range(30), dtype=pl.UInt8) * 2 % 31,
            "wide": pl.Series([2**63 + 10**9 * n for n in range(30)], dtype=pl.UInt64),
            "price": pl.Series(["1.25", None, "3.50"] * 10).cast(pl.Decimal(10, 2)),
            "when": [datetime(2024, 1, 1, 12, n % 60) for n in range(30)],
            "day": [date(2024, 1, n % 28 + 1) for n in range(30)],
            "kind": pl.Series(["a", "b", "c"] * 10, dtype=pl.Categorical),
            "raw": [b"\xff\xfe"] * 30,
            "deep": [{"a": n} for n in range(30)],
            "label": ["x", "y", "z"] * 10,
        }
    )
    found = run(tmp_path, parquet_bytes(frame))
    assert kinds(found) == {
        **dict.fromkeys(("small", "wide", "price"), "number"),
        **dict.fromkeys(("when", "day"), "date"),
        "kind": "category",
    }
    assert codes(found) == {"nested_column": 2}
    assert items(found)[0] | {"wide": 0} == {
        "small": 0, "wide": 0, "price": 1.25, "when": "2024-01-01T12:00:00", "day": "2024-01-01", "kind": "a"
    }  # fmt: skip


def test_a_column_beside_the_text_is_said(tmp_path):
    rows = [(n, text, n % 5, label) for n, (text, label) in enumerate(reviews())]
    data = csv_bytes(["id", "review", "stars", "label"], rows)
    found = run(tmp_path, data)
    assert found.manifest.modality == "text"
    assert codes(found) == {"unused_column": 1}
    assert run(tmp_path, data, modality="tabular").manifest.modality == "tabular"
    other = run(tmp_path, csv_bytes(["a", "b", "label"], [(text, text[::-1], 1) for text, _ in reviews()]), text="b")
    assert items(other)[0] == reviews()[0][0][::-1]


def test_formulas_stay_what_they_are(tmp_path):
    rows = [(f"=HYPERLINK(A{n}) and some more words", n % 2) for n in range(20)]
    assert items(run(tmp_path, csv_bytes(["text", "label"], rows)))[1] == "=HYPERLINK(A1) and some more words"


# Copies


def test_copies_of_texts(tmp_path):
    rows = [*reviews(), (reviews()[0][0] + "  ", "bad"), (reviews()[1][0], "bad")]
    found = run(tmp_path, csv_bytes(["text", "label"], rows))
    assert codes(found) == {"duplicate_in_split": 1, "conflicting_labels": 1}
    places = {item.name: item.split for item in found.manifest.items}
    assert "row 2" not in places
    assert places["row 1"] == places["row 41"]


def test_copies_across_given_splits(tmp_path):
    files = {"train.csv": TEXTS, "test.csv": csv_bytes(["text", "label"], reviews(4))}
    found = run(tmp_path, make_zip(files))
    assert codes(found) == {"duplicate_across_splits": 4}
    assert found.report.splits["test"] == 4


def test_equal_rows_of_coarse_columns_are_no_copies(tmp_path):
    found = run(tmp_path, csv_bytes(["a", "b", "label"], [(n % 2, n % 3, n % 5) for n in range(90)]))
    assert len(found.manifest.items) == 90
    assert codes(found)["rows_repeat"] == 1
    assert "conflicting_labels" not in codes(found)


def test_repeated_measurements_stay_together(tmp_path):
    rows = [(text, n) for at, (text, _) in enumerate(reviews()) for n in (at + 0.25, at + 0.5)]
    found = run(tmp_path, csv_bytes(["text", "value"], rows))
    assert codes(found)["differing_values"] == 40
    places = [item.split for item in found.manifest.items]
    assert places[::2] == places[1::2]


# Round trips

_letters = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], include_characters='\n\r\t",')
_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


_row = st.tuples(st.integers(-(2**40), 2**40), _words, st.sampled_from("ab"))
_rows = st.lists(_row, min_size=2, max_size=30, unique_by=lambda row: row[0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_rows)
def test_rows_come_back(tmp_path, rows):
    said = [{"n": number, "w": f"w{word}", "label": label} for number, word, label in rows]
    found = run(tmp_path, jsonl_bytes(said), modality="tabular", target="label")
    with DatasetReader(found.manifest, found.content) as reader:
        for index, item in enumerate(found.manifest.items):
            row = said[int(item.name.removeprefix("row ")) - 1]
            assert reader.item(index) == {"n": row["n"], "w": row["w"].strip()}
            assert found.manifest.classes[item.label] == row["label"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(_letters, max_size=30), min_size=1, max_size=20))
def test_texts_come_back_from_csv(tmp_path, texts):
    rows = [(f"t{text}t", "b") for text in texts]
    found = run(tmp_path, csv_bytes(["text", "label"], rows), modality="text", target="label", text="text")
    with DatasetReader(found.manifest, found.content) as reader:
        for index, item in enumerate(found.manifest.items):
            assert reader.item(index) == rows[int(item.name.removeprefix("row ")) - 1][0]
