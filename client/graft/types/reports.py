"""A job's report."""

from graft.types.base import Resource
from graft.types.episodes import EpisodeReport
from graft.types.jobs import Step
from graft.types.rankings import Ranking
from graft.types.shifts import Shift
from graft.types.verdicts import Arm, Judgement


class Metric(Resource):
    """A figure on `n` held-out items, with its 95 % interval."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    n: int


class ClassRow(Resource):
    """One class of the held-out items."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


class Calibration(Resource):
    """Temperature scaling and the expected calibration error before and after it."""

    temperature: float
    fitted_on: int
    ece_before: float
    ece_after: float


class CurvePoint(Resource):
    """One epoch, or one candidate regularisation of a closed-form method."""

    x: float
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_score: float | None = None


class Mistake(Resource):
    """A held-out item that the model got wrong."""

    name: str
    truth: str
    predicted: str
    confidence: float | None = None


class ScatterPoint(Resource):
    """A held-out item of a regression."""

    truth: float
    predicted: float


class Report(Resource):
    """What a job found out."""

    job_id: str
    model_id: str | None = None
    """None where the job makes no model."""
    modality: str = "image"
    problem: str = "classification"
    target: str | None = None
    method: str
    base_model: str
    classes: list[str] = []
    evaluated_on: str
    train_items: int
    validation_items: int
    held_out_items: int
    metrics: list[Metric] = []
    class_table: list[ClassRow] = []
    confusion: list[list[int]] = []
    """Rows: truth; columns: prediction; order of `classes`."""
    calibration: Calibration | None = None
    scatter: list[ScatterPoint] = []
    arms: list[Arm] = []
    judgement: Judgement | None = None
    ranking: Ranking | None = None
    """What `rank_base_models` found."""
    shift: Shift | None = None
    """How far a target lies from the source, where there is one."""
    episodes: EpisodeReport | None = None
    """What was found out about learning new classes from a few items."""
    curve_axis: str | None = None
    curve: list[CurvePoint] = []
    mistakes: list[Mistake] = []
    steps: list[Step] = []
    notes: list[str] = []
