"""What the tests of tables share: tables as bytes, and what an ingestion made of them."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.contract.datasets import Reading
from core.modality.ingest import Ingested, RejectedError
from core.modality.reader import DatasetReader
from tests.modality import ingesting

REVIEWS = ["I would buy this again and again", "it broke after two days of use", "a plain and honest thing to own"]


def run(tmp_path: Path, data: bytes, limits: Mapping[str, Any] | None = None, **reading: Any) -> Ingested:
    return ingesting.run(tmp_path, data, reading=Reading(**reading), **(limits or {}))


def rejected(tmp_path: Path, data: bytes, limits: Mapping[str, Any] | None = None, **reading: Any) -> RejectedError:
    return ingesting.rejected(tmp_path, data, reading=Reading(**reading), **(limits or {}))


def csv_bytes(names: Sequence[str], rows: Sequence[Sequence[Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([names, *rows])
    return out.getvalue().encode()


def jsonl_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def reviews(count: int = 40) -> list[tuple[str, str]]:
    """Texts, each of its own, with a label."""
    return [(f"{REVIEWS[n % 3]}, says customer {n}", "good" if n % 2 else "bad") for n in range(count)]


def figures(count: int = 40) -> list[list[Any]]:
    """Rows of a number, a category, a flag, a date and a class."""
    return [
        [n * 1.5, "red" if n % 3 else "blue", str(n % 2 == 0), f"2024-01-{n % 28 + 1:02d}", "yes" if n % 2 else "no"]
        for n in range(count)
    ]


FIGURES = ("size", "colour", "new", "day", "bought")


def items(found: Ingested) -> list[Any]:
    assert found.content is not None
    with DatasetReader(found.manifest, found.content) as reader:
        return [reader.item(index) for index in range(len(reader))]


def kinds(found: Ingested) -> dict[str, str]:
    return {column.name: column.kind for column in found.report.columns}


def codes(found: Ingested | RejectedError) -> dict[str, int]:
    return {fault.code: fault.count for fault in found.report.faults}
