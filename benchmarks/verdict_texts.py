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
MANY = 800  # reviews that an encoder is tuned to


def _reviews(data: Path, kind: str) -> list[tuple[str, str]]:
    """The beginnings of reviews, which is what takes time, and whether they are good."""
    text = gzip.decompress((data / "amazon_reviews" / f"{kind}.csv.gz").read_bytes()).decode()
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [(row["text"][:LETTERS], row["label"]) for row in rows]


def _table(rows: Sequence[tuple[str, str]], *, train: int = TRAIN, column: str = "label") -> Upload:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["text", column, "split"])
    writer.writerows((*row, "train" if number < train else "test") for number, row in enumerate(rows))
    return Upload("", "text", ".csv", text.getvalue().encode())


def tagged(data: Path, rng: Rng) -> Upload:
    """Reviews with two tags at most: the kind of product, and whether they are good."""
    good = max(label for _, label in _reviews(data, REVIEWS[0]))
    found = [
        (text, kind if label != good else f"{kind};good") for kind in REVIEWS for text, label in _reviews(data, kind)
    ]
    chosen = rng.permutation(len(found))[: TRAIN + HELD_OUT]
    return _table([found[number] for number in chosen], column="labels")


def sentiment(data: Path, rng: Rng) -> Upload:
    """Good and bad reviews of all four kinds."""
    found = [row for kind in REVIEWS for row in _reviews(data, kind)]
    return _table([found[number] for number in rng.permutation(len(found))[: MANY + HELD_OUT]], train=MANY)


def shuffled(data: Path, rng: Rng) -> Upload:
    """Reviews with other reviews' labels."""
    found = _reviews(data, REVIEWS[int(rng.integers(len(REVIEWS)))])
    chosen = rng.permutation(len(found))[: TRAIN + HELD_OUT]
    labels = rng.permutation([found[number][1] for number in chosen])
    return _table([(found[number][0], str(label)) for number, label in zip(chosen, labels, strict=True)])
