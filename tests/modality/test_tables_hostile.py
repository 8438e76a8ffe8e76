"""Tables that are damaged, enormous or made to harm: refused with a reason, or read with their faults told."""

import gzip
import io
import json
import re
import struct
import zipfile

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.modality import parquet_footer
from core.modality.ingest import RejectedError
from core.modality.parquet_footer import read_sizes
from core.modality.table_errors import TableError
from tests.builders import make_zip
from tests.modality.tables import (
    FIGURES,
    codes,
    csv_bytes,
    figures,
    items,
    jsonl_bytes,
    parquet_bytes,
    rejected,
    reviews,
    run,
)

TEXTS = csv_bytes(["text", "label"], reviews())
PARQUET = parquet_bytes(pl.DataFrame(figures(), schema=list(FIGURES), orient="row"))


# Faults that leave rows out


def test_all_faults_at_once(tmp_path):
    good = [f'"{text}",{label}' for text, label in reviews()]
    bad = [
        "too,many,cells",
        "alone",
        '"an "open" quote",good',
        "a text with a NUL\0 in it,good",
        ",good",
        "no label at all,",
    ]
    found = run(tmp_path, "\n".join(["text,label,text", *good, *bad]).replace("label,text", "label").encode())
    assert codes(found) == {
        "ragged_row": 2,
        "bad_quotes": 1,
        "nul_character": 1,
        "empty_text": 1,
        "unlabelled_item": 1,
    }
    assert len(found.manifest.items) == 41
    faults = {fault.code: fault for fault in found.report.faults}
    assert faults["ragged_row"].examples == ["row 41: 3 cells, not 2", "row 42: 1 cells, not 2"]
    assert faults["bad_quotes"].examples[0].startswith("row 43 (line 44)")
    assert faults["nul_character"].examples == ["row 44"]
    assert faults["unlabelled_item"].examples == ["row 46"]
    assert all(fault.remedy for fault in found.report.faults)


def test_quotes_that_are_plain_characters(tmp_path):
    rows = [f'"{n} inches" is what it says here\t{n % 2}' for n in range(20)]
    found = run(tmp_path, "\n".join(["text\tlabel", *rows]).encode())
    assert items(found)[3] == '"3 inches" is what it says here'
    assert codes(found) == {"quotes_as_text": 1}


def test_a_quote_that_is_never_closed(tmp_path):
    lines = csv_bytes(["label", "text"], [(label, f"{text}, or so") for text, label in reviews()]).decode().splitlines()
    lines[30] = lines[30].replace(", or so", "")[:-1]
    found = run(tmp_path, "\n".join(lines).encode())
    assert codes(found) == {"bad_quotes": 1}
    assert len(found.manifest.items) == 38  # the row and the one that its quotation swallowed
    lines[5:] = [line.replace('"', "") for line in lines[5:]]
    lines[5] = lines[5].replace(",", ',"', 1)
    found.content.unlink()
    error = rejected(tmp_path, "\n".join(lines).encode())
    assert error.code == "mostly_unreadable"
    assert codes(error) == {"mostly_unreadable": 1, "bad_quotes": 1}


def test_names_that_stand_twice_or_not_at_all(tmp_path):
    rows = [(n, n * 1.5, n % 7, n % 2) for n in range(40)]
    found = run(tmp_path, csv_bytes(["", "size", "size", "label"], rows))
    assert [column.name for column in found.report.columns] == ["column_1", "size", "size_2"]
    assert codes(found) == {"unnamed_column": 1, "duplicate_column": 1}


def test_a_first_line_of_numbers_is_a_row(tmp_path):
    rows = [(5.1 + n, 3.5, 1.4 * n, "setosa" if n % 2 else "virginica") for n in range(30)]
    found = run(tmp_path, csv_bytes([str(cell) for cell in rows[0]], rows[1:]))
    assert len(found.manifest.items) == 30
    assert set(codes(found)) == {"no_header", "target_guessed"}


def test_lines_that_are_no_objects(tmp_path):
    lines = [json.dumps({"text": text, "label": label}) for text, label in reviews()]
    lines += ['{"text": "cut off', "[1, 2]", '{"a": ' * 100_000, '{"text": "\\ud800", "label": "good"}']
    found = run(tmp_path, "\n".join(lines).encode())
    assert codes(found) == {"bad_json": 4}
    assert len(found.manifest.items) == 40


def test_types_that_mix_and_numbers_without_end(tmp_path):
    rows = [
        {"a": [1, "x", True][n % 3], "b": n, "c": {"deep": n}, "d": n * 0.5, "label": "yn"[n % 2]} for n in range(30)
    ]
    text = (
        "\n".join(json.dumps(row) for row in rows).replace('"d": 2.0', '"d": Infinity').replace('"d": 3.0', '"d": NaN')
    )
    found = run(tmp_path, text.replace('"b": 7', f'"b": {10**400}').encode())
    assert codes(found) == {"mixed_types": 1, "nested_column": 1, "not_finite": 2}
    assert items(found)[1] == {"a": "x", "b": 1, "d": 0.5}
    assert [items(found)[n]["d"] for n in (4, 6)] == [None, None]
    assert items(found)[7]["b"] is None


def test_words_among_numbers(tmp_path):
    rows = [("ill" if n == 7 else n * 1.5, n % 7, n % 2) for n in range(60)]
    found = run(tmp_path, csv_bytes(["size", "rank", "label"], rows))
    assert codes(found) == {"mixed_types": 1}
    assert items(found)[7] == {"size": None, "rank": 0}


def test_targets_that_are_wrong(tmp_path):
    rows = [(n * 0.3, ["inf", "", "many", "nan"][n] if n < 4 else n * 1.5) for n in range(60)]
    found = run(tmp_path, csv_bytes(["x", "y"], rows), problem="regression")
    assert codes(found) == {"missing_target": 2, "target_not_a_number": 2}
    assert len(found.manifest.items) == 56
    flags = [(n * 0.3, 1, "2" if n == 5 else 0) for n in range(30)]
    assert codes(run(tmp_path, csv_bytes(["x", "a", "b"], flags), target="a,b"))["target_not_binary"] == 1
    long = [(n * 0.3, "z" * 300 if n == 0 else "ab"[n % 2]) for n in range(30)]
    assert codes(run(tmp_path, csv_bytes(["x", "y"], long)))["unprintable_label"] == 1


# Whole tables that are refused


@pytest.mark.parametrize(
    ("data", "limits", "reading", "code"),
    [
        (b"text,label\n", {}, {}, "empty_table"),
        (b"[]", {}, {}, "empty_table"),
        (parquet_bytes(pl.DataFrame({"a": []})), {}, {}, "empty_table"),
        (b'{"a": 1', {}, {}, "mostly_unreadable"),
        (b"[{]", {}, {}, "unreadable_table"),
        (TEXTS, {"max_rows": 39}, {}, "too_many_rows"),
        (csv_bytes(["a"] * 30, [range(30)] * 5), {"max_columns": 29}, {}, "too_many_columns"),
        (jsonl_bytes([{f"k{n}": n} for n in range(40)]), {"max_columns": 39}, {}, "too_many_columns"),
        (TEXTS, {"max_table_bytes": 1000}, {}, "table_too_large"),
        (gzip.compress(TEXTS * 20), {"max_table_bytes": 1000}, {}, "table_too_large"),
        (TEXTS, {"max_item_bytes": 30}, {}, "unreadable_table"),
        (TEXTS, {"max_classes": 1}, {}, "too_many_classes"),
        (TEXTS, {}, {"target": "lable"}, "unknown_column"),
        (TEXTS, {}, {"text": "x"}, "unknown_column"),
        (TEXTS, {}, {"split": "x"}, "unknown_column"),
        (TEXTS, {}, {"target": "text,x"}, "unknown_column"),
        (TEXTS, {}, {"modality": "image"}, "wrong_reading"),
        (TEXTS, {}, {"problem": "regression"}, "wrong_reading"),
        (TEXTS, {}, {"text": "label", "target": "label"}, "wrong_reading"),
        (csv_bytes(["a", "b"], [(1, 2)] * 9), {}, {"modality": "text"}, "wrong_reading"),
        (TEXTS, {}, {"modality": "tabular"}, "no_features"),
        (make_zip({"a.csv": TEXTS, "b.csv": TEXTS}), {}, {}, "several_tables"),
        (PARQUET, {"max_rows": 39}, {}, "too_many_rows"),
        (PARQUET, {"max_columns": 4}, {}, "too_many_columns"),
        (PARQUET, {"max_table_bytes": 100}, {}, "table_too_large"),
        (PARQUET[:-9], {}, {}, "unreadable_table"),
        (b"PAR1" + bytes(20) + b"PAR1", {}, {}, "unreadable_table"),
    ],
)  # fmt: skip
def test_refused(tmp_path, data, limits, reading, code):
    assert rejected(tmp_path, data, limits, **reading).code == code


def test_a_near_name_is_proposed(tmp_path):
    assert "'label'" in (rejected(tmp_path, TEXTS, target="lable").hint or "")


def test_a_damaged_entry_of_an_archive(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.csv", TEXTS)
    data = buffer.getvalue().replace(b"customer 7", b"customer 8")
    assert rejected(tmp_path, data).code == "unreadable_table"


def test_a_table_of_empty_lines_and_a_bomb(tmp_path):
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000)
    assert rejected(tmp_path, bomb).code == "archive_bomb"
    wide = b"a," * 1999 + b"b\n" + (b"," * 1999 + b"\n") * 300
    assert rejected(tmp_path, wide, {"max_table_bytes": 5_000_000}).code == "table_too_large"


# Parquet


def test_sizes_of_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": range(1000), "b": ["word"] * 1000}).write_parquet(path, row_group_size=100)
    sizes = read_sizes(path)
    assert (sizes.rows, sizes.columns) == (1000, 2)
    assert 1000 < sizes.unpacked < 100_000


def test_one_long_word_in_many_rows_is_not_unpacked(tmp_path):
    frame = pl.DataFrame({"text": ["word " * 20_000] * 2_000, "label": ["a", "b"] * 1_000})
    data = parquet_bytes(frame)
    assert len(data) < 100_000
    assert rejected(tmp_path, data, {"max_table_bytes": 50_000_000}).code == "table_too_large"


def test_a_negative_count_in_a_page_is_refused_before_it_is_decoded(tmp_path):
    """Decoding it asks for two exbibytes, which ends the process."""
    counts = [match.end() for match in re.finditer(rb"[\x2c\x4c]\x15", PARQUET[: PARQUET.index(b"schema")])]
    assert len(counts) > 5  # of dictionaries and of data
    for at in counts:
        damaged = PARQUET[:at] + b"\x53" + PARQUET[at + 1 :]
        assert rejected(tmp_path, damaged).code == "unreadable_table"


def test_pages_with_long_headers_lists_and_nulls_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_footer, "_HEADERS", (8, 32, 4096))  # the first two are too short for a page's header
    path = tmp_path / "x.parquet"
    frame = pl.DataFrame(
        {"words": ["x" * 9_000, None, "y"] * 50, "lists": [[1, 2], [], None] * 50, "numbers": [None, 1.5, 2.5] * 50}
    )
    for compression in ("uncompressed", "zstd"):
        frame.write_parquet(path, compression=compression, statistics="full", row_group_size=60, data_page_size=100)
        sizes = read_sizes(path)
        assert (sizes.rows, sizes.columns) == (150, 3)
        assert sizes.values > 450


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(PARQUET) - 1), byte=st.integers(0, 255))
def test_parquet_with_a_wrong_byte(tmp_path, at, byte):
    _survives(tmp_path, PARQUET[:at] + bytes([byte]) + PARQUET[at + 1 :])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(footer=st.binary(max_size=200))
def test_parquet_with_a_footer_of_anything(tmp_path, footer):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")
    try:
        assert read_sizes(path).rows >= 0
    except TableError as error:
        assert error.code == "unreadable_table"  # noqa: PT017 -- either end is right


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.text(alphabet='ab,;\t"\n\r0.{}[]:\0 é', max_size=200).map(str.encode)))
def test_anything_is_read_or_refused(tmp_path, data):
    _survives(tmp_path, data)


def _survives(tmp_path, data):
    for path in tmp_path.iterdir():
        path.unlink()
    try:
        found = run(tmp_path, data)
    except RejectedError as error:
        assert error.hint  # noqa: PT017 -- either end is right
        assert [path.name for path in tmp_path.iterdir()] == ["upload"]
    else:
        assert len(items(found)) == found.report.items > 0
