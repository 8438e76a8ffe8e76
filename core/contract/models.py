"""Models: what a job made."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from core.contract.base import JobId, ModelId, Record, Sha256
from core.contract.datasets import Modality, Problem
from core.contract.few_shot import FewShot
from core.contract.prepare import Prepare
from core.contract.reports import Metric
from core.contract.verdicts import Judgement, Verdict


class DataUse(Record):
    """A data set as a model was made from it."""

    dataset_id: str
    role: Literal["source", "target", "evaluation"]
    manifest_sha256: Sha256
    content_sha256: Sha256
    items: int
    splits: dict[str, int]


class Parity(Record):
    """How far the exported graph agrees with PyTorch on real items."""

    items: int
    max_abs_difference: float = Field(description="Largest absolute difference of a probability.")
    tolerance: float


class Imported(Record):
    """Where an imported model came from. What is claimed was said by the upload, and not measured here."""

    name: str = Field(description="The name it was imported under.")
    kind: Literal["bundle", "weights"] = Field(description="A bundle of another Graft, or a state dict.")
    sha256: Sha256 = Field(description="SHA-256 of the upload.")
    origin_model_id: ModelId | None = Field(default=None, description="Its id in the Graft it came from.")
    claimed_method: dict[str, Any] = {}
    claimed_metrics: list[Metric] = []
    claimed_data: list[DataUse] = []
    claimed_lineage: list[str] = []
    notes: list[str] = Field(default=[], description="What was done to the weights, in sentences.")


class ModelManifest(Record):
    """Everything needed to use a model and to know where it came from; stands in its bundle as `manifest.json`."""

    version: Literal[1] = 1
    model_id: ModelId
    job_id: JobId | None = Field(description="The job that made it; null for an imported model.")
    modality: Modality = "image"
    problem: Problem = "classification"
    classes: list[str] = Field(description="Empty for a regression, or an imported network without a classifier.")
    target: str | None = Field(default=None, description="Name of what is predicted, where the data named it.")
    prepare: Prepare
    input_names: list[str] = Field(
        default=["image"], description="`image`; `input_ids`, `attention_mask`; or `numbers`, `categories`."
    )
    output_names: list[str] = Field(
        default=["probabilities", "logits", "embedding"],
        description="`probabilities` are calibrated: softmax (for `multi_label` sigmoid) of logits / temperature. A "
        "regression has `value` instead of the two.",
    )
    temperature: float
    residual: float | None = Field(
        default=None, description="Regression: nine of ten held-back items lie no further than this from their value."
    )
    base_model: str = Field(description="The card or model id the job started from.")
    architecture: dict[str, Any] = Field(
        description="How to build the network again: builder, name, width, and how its head normalises the embedding."
    )
    lineage: list[str] = Field(default=[], description="Parents, nearest first, ending with a base model's id.")
    method: dict[str, Any] = Field(description="The method's options, as resolved.")
    seed: int
    data: list[DataUse]
    train_items: int
    validation_items: int
    held_out_items: int
    metrics: list[Metric]
    judgement: Judgement | None = Field(default=None, description="Whether the transfer helped.")
    parity: Parity
    versions: dict[str, str] = Field(description="Python and library versions.")
    hardware: dict[str, str]
    seconds: float = Field(description="Wall-clock seconds the job took up to the export.")
    licence: str = Field(description="Licence of the base model's weights.")
    few_shot: FewShot | None = Field(
        default=None, description="Of a model that classes can be added to from a few items: POST /models/{id}/classes."
    )
    imported: Imported | None = Field(default=None, description="Set where the weights came from outside.")
    created_at: datetime


class ModelFile(Record):
    """A file of the bundle; `offset` is where its (uncompressed) bytes begin in the zip."""

    name: str
    bytes: int
    sha256: Sha256
    offset: int = Field(exclude=True, default=0)


class Publication(Record):
    """That somebody said: this model may be used."""

    at: datetime
    override: str | None = Field(default=None, description="Why it was published although its verdict is `harmful`.")


class Model(Record):
    """A model in the service's books."""

    id: ModelId
    object: Literal["model"] = "model"
    job_id: JobId | None = Field(description="The job that made it; null for an imported model.")
    base_model: str
    method: str
    classes: list[str]
    metrics: dict[str, float]
    modality: Modality = "image"
    problem: Problem = "classification"
    verdict: Verdict | None = None
    publication: Publication | None = None
    bytes: int = Field(description="Size of the bundle.")
    sha256: Sha256 = Field(description="SHA-256 of the bundle.")
    files: list[ModelFile]
    manifest: ModelManifest
    created_at: datetime


class ImageItem(Record):
    """One image in a JSON prediction request."""

    image: str = Field(description="The image file's bytes in base64, with or without a `data:` prefix.")
    name: str | None = Field(default=None, max_length=256)


class TextItem(Record):
    """One text in a JSON prediction request."""

    text: str
    name: str | None = Field(default=None, max_length=256)


class RowItem(Record):
    """One row of a table in a JSON prediction request: columns that are left out are missing values."""

    row: dict[str, str | float | bool | None]
    name: str | None = Field(default=None, max_length=256)


class LabelScore(Record):
    """A class and its calibrated probability."""

    label: str
    probability: float


class ItemError(Record):
    """Why one item could not be predicted; the others are unharmed."""

    code: str
    message: str
    hint: str | None = None


class Prediction(Record):
    """The answer for one item: `label`, `labels` or `value`, as the model's problem asks; or an `error`."""

    index: int
    name: str | None = None
    label: str | None = None
    probability: float | None = None
    top: list[LabelScore] = []
    none_of_these: bool | None = Field(
        default=None,
        description="Few-shot models: whether the item is unlike all of the classes. It has no `label` then; `top` "
        "still names the nearest.",
    )
    labels: list[str] | None = Field(default=None, description="Multi-label: all classes above one half.")
    value: float | None = Field(default=None, description="Regression: the predicted number.")
    low: float | None = Field(default=None, description="Regression: nine of ten values lie between `low` and `high`.")
    high: float | None = None
    warnings: list[str] = Field(
        default=[], description="What is doubtful about the item, e.g. columns of a row that are missing or unknown."
    )
    error: ItemError | None = None


class PredictionReply(Record):
    """Body of the answer to `POST /models/{id}/predict`."""

    model: ModelId
    predictions: list[Prediction]
