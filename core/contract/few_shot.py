"""Few-shot models: what their manifests say, and what is found out about learning from a few items."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from core.contract.base import Record

HeadKind = Literal["class_means", "items", "relation", "ridge"]


class Initialisation(Record):
    """A meta-learnt start, from which a few steps on a few items make a classifier (`adapt_few_shot`)."""

    method: str
    inner_steps: int
    inner_lr: float
    adapts: Literal["all", "head"] = Field(description="What the steps change: the whole network, or its head alone.")
    order: Literal[1, 2] = 1
    body_steps: int | None = Field(
        default=None, description="In how many of the steps, the last ones, the body moves; null: in all but the first."
    )
    body_lr: float | None = Field(default=None, description="The body's rate in them; null: the head's.")
    rates: bool = Field(default=False, description="Whether each weight has a rate of its own (Meta-SGD).")
    statistics: Literal["fixed", "support"] = Field(
        default="fixed", description="What batch norms go by: what they were trained with, or the few items themselves."
    )


class ClassChangeRecord(Record):
    """A class that was added to a model, or taken away."""

    change: Literal["added", "removed"]
    name: str
    items: int = Field(description="Items that it was learnt from.")
    at: datetime


class FewShot(Record):
    """What makes a model a few-shot model: classes can be added to it from a few items, without training."""

    kind: HeadKind = Field(
        description="How it answers: by `class_means` of the embedding; by single `items`; by a learnt `relation` to "
        "the class means; or by `ridge` regression on all items, of which sums are kept."
    )
    scale: float = Field(default=1.0, description="Of `class_means`: logits are minus squared distances times this.")
    counts: list[int] = Field(description="Items that each class was learnt from, in the order of `classes`.")
    least_logit: float | None = Field(
        default=None,
        description="An item whose highest logit is below this is none of the classes. Null where too few items were "
        "there to tell.",
    )
    kept: float = Field(default=0.95, description="Share of items of known classes that lie above it.")
    initialisation: Initialisation | None = None
    revision: int = Field(default=0, description="How often its classes were changed since it was trained.")
    revision_of: str | None = Field(default=None, description="The model that this one was made from by such a change.")
    changes: list[ClassChangeRecord] = []


class EpisodeFigure(Record):
    """Accuracy over episodes of one kind."""

    arm: str
    ways: int
    shots: int
    queries: int = Field(description="Items of each class that were asked about.")
    episodes: int
    accuracy: float
    low: float | None = Field(default=None, description="Lower end of the 95 % interval of the mean over episodes.")
    high: float | None = None
    seconds: float | None = Field(default=None, description="For one episode.")
    note: str = ""


class EpisodeReport(Record):
    """What a job found out about learning new classes from a few items."""

    figures: list[EpisodeFigure]
    train_classes: int
    validation_classes: int
    test_classes: int
    test_examples: list[str] = Field(default=[], max_length=20, description="Some of the classes measured on.")
    grouped: bool = Field(default=False, description="Whether whole groups of classes were held out.")
    outliers: float | None = Field(
        default=None, description="Share of items of new classes that the model says are none of its classes."
    )
    sentence: str = ""
