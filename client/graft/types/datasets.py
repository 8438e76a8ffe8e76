"""Data sets and what ingestion found in them."""

from datetime import datetime

from graft.types.base import Resource
from graft.types.errors import ErrorBody


class Reading(Resource):
    """How an upload is to be read, where that cannot be seen in it."""

    modality: str | None = None
    problem: str | None = None
    target: str | None = None
    text: str | None = None
    split: str | None = None


class Dataset(Resource):
    """An uploaded collection; `state` is `uploading`, `validating`, `ready` or `rejected`."""

    id: str
    object: str = "dataset"
    name: str
    state: str
    modality: str | None = None
    problem: str | None = None
    """`classification`, `multi_label` or `regression`; None without labels."""
    reading: Reading = Reading()
    """How it was asked to be read."""
    labelled: bool | None = None
    classes: list[str] = []
    items: int = 0
    splits: dict[str, int] = {}
    bytes: int
    sha256: str
    warnings: int = 0
    error: ErrorBody | None = None
    metadata: dict[str, str] = {}
    created_at: datetime
    ready_at: datetime | None = None


class Fault(Resource):
    """One kind of fault; `severity` is `error` (rejects), `warning` or `info`."""

    code: str
    severity: str
    count: int
    message: str
    remedy: str
    examples: list[str] = []


class ClassCount(Resource):
    """A class and how many of its items stand in each split."""

    name: str
    train: int = 0
    validation: int = 0
    test: int = 0


class Column(Resource):
    """A column of a table; `missing` is the share of rows without a value."""

    name: str
    kind: str
    missing: float = 0.0
    distinct: int = 0
    examples: list[str] = []


class DatasetReport(Resource):
    """Every fault at once, with classes, splits and sizes."""

    faults: list[Fault] = []
    files: int
    items: int
    labelled: bool
    unlabelled: int = 0
    classes: list[ClassCount] = []
    splits: dict[str, int] = {}
    split_source: str
    seed: int
    width: tuple[int, int, int] | None = None
    """Smallest, median, largest width in pixels."""
    height: tuple[int, int, int] | None = None
    """Smallest, median, largest height in pixels."""
    characters: tuple[int, int, int] | None = None
    """Smallest, median, largest length of a text."""
    columns: list[Column] = []
    target: str | None = None
    values: tuple[float, float, float] | None = None
    """Smallest, median, largest target value of a regression."""
    seconds: float


class Sample(Resource):
    """One item of a data set; `url` serves a thumbnail, the text or the row."""

    index: int
    name: str
    label: str | None = None
    labels: list[str] | None = None
    value: float | None = None
    split: str
    text: str | None = None
    row: dict[str, str | float | bool | None] | None = None
    url: str
