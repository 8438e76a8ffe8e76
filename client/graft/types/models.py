"""Models and predictions."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from graft.types.base import Resource


class ModelFile(Resource):
    """A file of a model's bundle."""

    name: str
    bytes: int
    sha256: str


class Publication(Resource):
    """That somebody said: this model may be used; `override` says why, although its verdict is `harmful`."""

    at: datetime
    override: str | None = None


class Model(Resource):
    """What a job made; `bytes` and `sha256` are those of its bundle."""

    id: str
    object: str = "model"
    job_id: str | None = None
    base_model: str
    method: str
    classes: list[str] = []
    metrics: dict[str, float] = {}
    modality: str = "image"
    problem: str = "classification"
    verdict: str | None = None
    publication: Publication | None = None
    bytes: int
    sha256: str
    files: list[ModelFile] = []
    manifest: dict[str, Any] = {}
    created_at: datetime

    @property
    def few_shot(self) -> dict[str, Any] | None:
        """What makes it a model that classes can be added to from a few items; None for others."""
        found: dict[str, Any] | None = self.manifest.get("few_shot")
        return found


class LabelScore(Resource):
    """A class and its calibrated probability."""

    label: str
    probability: float


class ItemError(Resource):
    """Why one item could not be predicted; the others are unharmed."""

    code: str
    message: str
    hint: str | None = None


class Prediction(Resource):
    """The answer for one item: either a `label` or an `error`.

    Few-shot models also say whether it is unlike all classes: then `none_of_these` is True and there is no `label`.
    """

    index: int
    name: str | None = None
    label: str | None = None
    probability: float | None = None
    top: list[LabelScore] = []
    none_of_these: bool | None = None
    error: ItemError | None = None


class Predictions(Resource):
    """The answers for all items, in the order they were given."""

    model: str
    predictions: list[Prediction]

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: int) -> Prediction:
        return self.predictions[index]

    def items(self) -> Iterator[Prediction]:
        """Iterate over the answers."""
        return iter(self.predictions)
