"""What is said of the images of an archive, by their folders or by a table."""

from dataclasses import dataclass

from core.contract.datasets import Problem, Split
from core.modality.answers import Answer

_NAMES = frozenset({"metadata", "labels", "annotations"})
_SUFFIXES = frozenset({"csv", "tsv", "jsonl", "parquet"})


@dataclass(frozen=True)
class Named:
    """What is said of images: `indices` into the list of images, and the answer and split of each."""

    problem: Problem
    target: str | None
    indices: list[int]
    answers: list[Answer]
    splits: list[Split | None]


def is_metadata(path: str) -> bool:
    """Whether a file of that name may say what images show."""
    stem, _, suffix = path.rpartition("/")[2].lower().partition(".")
    return stem in _NAMES and suffix in _SUFFIXES
