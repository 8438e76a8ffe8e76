"""Data sets: the resource a client sees, and the manifest the engine reads."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import DatasetId, Metadata, Record, Request, Sha256
from core.contract.errors import ErrorBody

DatasetState = Literal["uploading", "validating", "ready", "rejected"]
Modality = Literal["image", "text", "tabular"]
Problem = Literal["classification", "multi_label", "regression"]
ColumnKind = Literal["number", "category", "date", "boolean", "text", "identifier", "constant"]
Split = Literal["train", "validation", "test"]
_NAME = r"^[^\x00-\x1f\x7f]*$"
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Reading(Request):
    """How an upload is to be read, where that cannot be seen or is seen wrongly. Part of a data set's identity."""

    modality: Modality | None = Field(default=None, description="Found out by itself unless given.")
    problem: Problem | None = Field(
        default=None,
        description="`classification`: one class for each item; `multi_label`: any number of them; `regression`: a "
        "number. Found out from the target column unless given.",
    )
    target: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=_NAME,
        description="Column that is to be predicted; else found by its name. Several columns of 0 and 1 are separated "
        "by commas; `none` says that there is none.",
    )
    text: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=_NAME,
        description="Column that holds the text; else found by its contents.",
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=_NAME,
        description="Column with `train`, `validation` or `test`.",
    )


class Column(Record):
    """A column of a table, as it was understood."""

    name: str
    kind: ColumnKind = Field(
        description="`text`, `identifier` (a value of its own in nearly every row) and `constant` columns are left out "
        "of what is learnt."
    )
    missing: float = Field(default=0.0, ge=0, le=1, description="Share of rows without a value.")
    distinct: int = Field(default=0, description="Different values.")
    examples: list[str] = Field(default=[], max_length=5)


class Fault(Record):
    """One kind of fault found in a data set, with how often and what to do about it."""

    code: str = Field(description="Stable code, e.g. `unreadable_image`.")
    severity: Literal["error", "warning", "info"] = Field(
        description="`error` rejects the data set; `warning` left items out or needs a look; `info` is only said."
    )
    count: int = Field(ge=1)
    message: str
    remedy: str
    examples: list[str] = Field(default=[], max_length=10, description="Up to ten paths or names.")


class ClassCount(Record):
    """A class and how many of its items stand in each split."""

    name: str
    train: int = 0
    validation: int = 0
    test: int = 0

    @property
    def total(self) -> int:
        """Items in all splits together."""
        return self.train + self.validation + self.test


class DatasetReport(Record):
    """What ingestion found: every fault at once, classes, splits, sizes."""

    faults: list[Fault] = []
    files: int = Field(description="Files in the upload.")
    items: int = Field(description="Items that can be used.")
    labelled: bool = Field(description="False for a flat folder without classes.")
    unlabelled: int = Field(default=0, description="Items without a label, in a data set where others have one.")
    classes: list[ClassCount] = []
    splits: dict[Split, int] = {}
    split_source: Literal["given", "made", "mixed"] = Field(
        description="Whether the splits came with the upload, were made here (stratified, seeded), or both."
    )
    seed: int
    width: tuple[int, int, int] | None = Field(default=None, description="Smallest, median, largest width in pixels.")
    height: tuple[int, int, int] | None = Field(default=None, description="Smallest, median, largest height in pixels.")
    characters: tuple[int, int, int] | None = Field(
        default=None, description="Smallest, median, largest length of a text in characters."
    )
    columns: list[Column] = Field(default=[], description="The columns of a table, without its target.")
    target: str | None = Field(default=None, description="The column that is to be predicted.")
    values: tuple[float, float, float] | None = Field(
        default=None, description="Smallest, median, largest target value of a regression."
    )
    seconds: float


class Dataset(Record):
    """An uploaded, validated, immutable collection."""

    id: DatasetId
    object: Literal["dataset"] = "dataset"
    name: str
    state: DatasetState
    modality: Modality | None = Field(default=None, description="Known once the data set is `ready`.")
    problem: Problem | None = Field(default=None, description="What its labels ask for; null without labels.")
    labelled: bool | None = None
    classes: list[str] = []
    reading: Reading = Field(default=Reading(), description="How it was asked to be read.")
    items: int = 0
    splits: dict[Split, int] = {}
    bytes: int = Field(description="Size of the upload in bytes.")
    sha256: Sha256 = Field(description="SHA-256 of the upload; identical bytes are stored once.")
    warnings: int = Field(default=0, description="Kinds of fault that did not reject the data set; see its report.")
    error: ErrorBody | None = Field(default=None, description="Why it was rejected.")
    metadata: Metadata = {}
    created_at: datetime
    ready_at: datetime | None = None


class Item(Record):
    """One item of a data set: where its bytes lie in the content blob, its label and its split."""

    name: str = Field(description="Path inside the upload, for people.")
    offset: int = Field(ge=0, description="First byte of the item's data in the content blob.")
    length: int = Field(ge=0, description="Stored bytes.")
    size: int = Field(ge=0, description="Bytes after inflating; equals `length` where not deflated.")
    deflated: bool = Field(default=False, description="Whether the stored bytes are a raw DEFLATE stream.")
    label: int | None = Field(default=None, description="Index into `classes`.")
    labels: list[int] | None = Field(default=None, description="Indices into `classes`, rising, for `multi_label`.")
    value: float | None = Field(default=None, description="The number to predict, for `regression`.")
    split: Split
    sha256: Sha256 = Field(description="Of the item's bytes after inflating.")


class DatasetManifest(Record):
    """The frozen list of usable items. Order is part of the identity: features are stored in this order."""

    version: Literal[1] = 1
    modality: Modality
    problem: Problem = "classification"
    content_sha256: Sha256 = Field(
        description="The blob that holds the items' bytes: image files, UTF-8 texts, or rows as JSON objects."
    )
    classes: list[str] = Field(description="Empty without labels, and for `regression`.")
    columns: list[Column] = Field(default=[], description="Of a table, without its target.")
    target: str | None = Field(default=None, description="Name of the target column, where there was one.")
    items: list[Item]

    @property
    def labelled(self) -> bool:
        """Whether items carry labels or values."""
        return bool(self.classes) or any(item.value is not None for item in self.items)
