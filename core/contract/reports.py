"""The report: what a job found out."""

from typing import Literal

from pydantic import Field

from core.contract.base import Record
from core.contract.jobs import Step


class Metric(Record):
    """A figure on held-out items with its 95 % interval."""

    name: Literal["accuracy", "macro_f1", "nll", "ece"]
    value: float
    low: float | None = None
    high: float | None = None
    interval: Literal["wilson", "bootstrap"] | None = None
    n: int = Field(description="Held-out items it was measured on.")


class ClassRow(Record):
    """One class of the held-out items."""

    name: str
    support: int = Field(description="Held-out items of the class.")
    precision: float
    recall: float
    f1: float


class ReliabilityBin(Record):
    """Predictions whose confidence falls into one of 15 equal bins (after temperature scaling)."""

    confidence: float
    accuracy: float
    count: int


class Calibration(Record):
    """Temperature scaling (Guo et al., ICML 2017), fitted on the validation split."""

    temperature: float
    fitted_on: int = Field(description="Items it was fitted on.")
    ece_before: float = Field(description="Expected calibration error on the held-out items, 15 bins.")
    ece_after: float
    bins: list[ReliabilityBin] = []


class CurvePoint(Record):
    """One epoch of training (or one candidate regularisation of a closed-form method)."""

    x: float = Field(description="Epoch, or log10 of the regularisation.")
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class Mistake(Record):
    """A held-out item that the model got wrong, most confident first."""

    name: str
    truth: str
    predicted: str
    confidence: float


class Report(Record):
    """What a job found out: figures, tables, pictures' data and costs."""

    version: Literal[1] = 1
    job_id: str
    model_id: str
    method: str
    base_model: str
    classes: list[str]
    evaluated_on: Literal["test_split", "evaluation_dataset"]
    train_items: int
    validation_items: int
    held_out_items: int
    metrics: list[Metric]
    class_table: list[ClassRow]
    confusion: list[list[int]] = Field(description="Rows: truth; columns: prediction; order of `classes`.")
    calibration: Calibration
    curve_axis: Literal["epoch", "log10_regularisation"]
    curve: list[CurvePoint] = []
    mistakes: list[Mistake] = Field(default=[], max_length=20)
    steps: list[Step]
    notes: list[str] = Field(default=[], description="What a reader should know, in sentences.")
