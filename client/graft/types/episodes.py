"""What a job found out about learning new classes from a few items."""

from graft.types.base import Resource


class EpisodeFigure(Resource):
    """Accuracy of an arm over episodes of `ways` classes with `shots` items each; the interval is that of the mean."""

    arm: str
    ways: int
    shots: int
    queries: int
    episodes: int
    accuracy: float
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    note: str = ""


class EpisodeReport(Resource):
    """Figures on classes that nothing was trained on; `outliers`: the share of their items that are told apart."""

    figures: list[EpisodeFigure]
    train_classes: int
    validation_classes: int
    test_classes: int
    test_examples: list[str] = []
    grouped: bool = False
    outliers: float | None = None
    sentence: str = ""
