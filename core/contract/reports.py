"""The report: what a job found out."""

from typing import Literal

from pydantic import Field

from core.contract.base import Record
from core.contract.datasets import Modality, Problem
from core.contract.few_shot import EpisodeReport
from core.contract.jobs import Step
from core.contract.shifts import Shift as Shift  # noqa: PLC0414 - a part of the report
from core.contract.verdicts import Arm, Difference, Judgement

EvaluatedOn = Literal["test_split", "evaluation_dataset", "target", "nothing"]


class Metric(Record):
    """A figure on held-out items with its 95 % interval."""

    name: Literal["accuracy", "macro_f1", "nll", "ece", "micro_f1", "average_precision", "rmse", "mae", "r2"] = Field(
        description="Multi-label: `accuracy` is the share of items with exactly the right classes."
    )
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

    temperature: float = Field(description="1 for a regression.")
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
    validation_score: float | None = Field(default=None, description="Micro-F1 (multi-label) or R2 (regression).")


class Mistake(Record):
    """A held-out item that the model got wrong, most confident first."""

    name: str
    truth: str
    predicted: str
    confidence: float | None = Field(default=None, description="None for a regression: the largest errors come first.")


class ScatterPoint(Record):
    """A held-out item of a regression."""

    truth: float
    predicted: float


class Candidate(Record):
    """A base model in a ranking."""

    base_model: str
    title: str
    rank: int | None = Field(default=None, description="1 is the best; null where nothing was measured.")
    score: float | None = Field(
        default=None,
        description="What the ranking is by: mean accuracy (micro-F1, R2) of probe and kNN. LogME decides between "
        "those that this cannot tell from the highest.",
    )
    behind: Difference | None = Field(
        default=None, description="The highest score minus this one's, on the same items; the highest has none."
    )
    probe: float | None = Field(default=None, description="Cross-validated accuracy of a linear probe.")
    knn: float | None = Field(default=None, description="Leave-one-out accuracy of the nearest neighbours.")
    logme: float | None = None
    h_score: float | None = None
    seconds: float | None = Field(default=None, description="To embed as many items as were looked at.")
    items_per_second: float | None = Field(default=None, description="Items that are embedded in a second.")
    memory_bytes: int | None = Field(default=None, description="That embedding took, beside what was in use before.")
    parameters: int = 0
    state: Literal["measured", "failed", "skipped"] = "measured"
    note: str = ""


class Ranking(Record):
    """Base models in the order of how well they suit the data."""

    candidates: list[Candidate] = Field(description="Best first; those that could not be measured last.")
    items: int = Field(description="Training items that were looked at.")
    folds: int = Field(description="Of the probe's cross-validation; as many as items where it is leave-one-out.")
    equal: list[str] = Field(default=[], description="Base models that cannot be told from the first on these items.")
    agreement: dict[str, float] = Field(
        description="Weighted Kendall tau of each score with the ranking; 1 is full agreement, 0 none."
    )
    sentence: str


class Report(Record):
    """What a job found out: figures, tables, pictures' data and costs."""

    version: Literal[1] = 1
    job_id: str
    model_id: str | None = Field(description="Null where the job makes no model.")
    modality: Modality = "image"
    problem: Problem = "classification"
    target: str | None = None
    method: str
    base_model: str
    classes: list[str]
    evaluated_on: EvaluatedOn = Field(
        description="`nothing` where there is no source and no label of the new domain: `metrics` is empty then."
    )
    train_items: int
    validation_items: int
    held_out_items: int
    metrics: list[Metric]
    class_table: list[ClassRow]
    confusion: list[list[int]] = Field(
        default=[], description="Rows: truth; columns: prediction; order of `classes`. Of `classification` only."
    )
    calibration: Calibration | None = None
    scatter: list[ScatterPoint] = Field(default=[], max_length=1000)
    arms: list[Arm] = []
    judgement: Judgement | None = None
    ranking: Ranking | None = None
    shift: Shift | None = Field(default=None, description="Of a job with a `source` and a `target`.")
    episodes: EpisodeReport | None = Field(default=None, description="Of a job that is measured on episodes.")
    curve_axis: Literal["epoch", "log10_regularisation"]
    curve: list[CurvePoint] = []
    mistakes: list[Mistake] = Field(default=[], max_length=20)
    steps: list[Step]
    notes: list[str] = Field(default=[], description="What a reader should know, in sentences.")
