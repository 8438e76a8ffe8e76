"""Reviews for jobs whose verdict is known."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.sets import REVIEWS, Upload

Rng = np.random.Generator
TRAIN, HELD_OUT, LETTERS = 400, 400, 400
MANY = 1600  # reviews to learn from, and half as many held out, where one mean of a class is to fall behind
GROUP = {"books": "first", "electronics": "first", "dvd": "second", "kitchen": "second"}


def _reviews(data: Path, kind: str) -> list[tuple[str, str]]:
    """The beginnings of reviews, which is what takes time, and whether they are good."""
    text = gzip.decompress((data / "amazon_reviews" / f"{kind}.csv.gz").read_bytes()).decode()
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [(row["text"][:LETTERS], row["label"]) for row in rows]


def _table(rows: Sequence[tuple[str, str]], train: int = TRAIN) -> Upload:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["text", "label", "split"])
    writer.writerows((*row, "train" if number < train else "test") for number, row in enumerate(rows))
    return Upload("", "text", ".csv", text.getvalue().encode())


def grouped(data: Path, rng: Rng) -> Upload:
    """Reviews of four kinds of products as two classes of two kinds each, which are not alike."""
    found = [(text, GROUP[kind]) for kind in REVIEWS for text, _ in _reviews(data, kind)]
    return _table([found[number] for number in rng.permutation(len(found))[: MANY + MANY // 2]], MANY)


def sentiment(data: Path, rng: Rng) -> Upload:
    """Good and bad reviews of all four kinds."""
    found = [row for kind in REVIEWS for row in _reviews(data, kind)]
    return _table([found[number] for number in rng.permutation(len(found))[: MANY + MANY // 2]], MANY)


def shuffled(data: Path, rng: Rng) -> Upload:
    """Reviews with other reviews' labels."""
    found = _reviews(data, REVIEWS[int(rng.integers(len(REVIEWS)))])
    chosen = rng.permutation(len(found))[: TRAIN + HELD_OUT]
    labels = rng.permutation([found[number][1] for number in chosen])
    return _table([(found[number][0], str(label)) for number, label in zip(chosen, labels, strict=True)])
