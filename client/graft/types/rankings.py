"""A ranking of base models."""

from graft.types.base import Resource


class Difference(Resource):
    """How far one figure is above another on the same items, with its 95 % interval."""

    effect: float
    low: float
    high: float
    p_value: float | None = None
    test: str = ""


class Candidate(Resource):
    """A base model in a ranking; `state` says whether it was `measured`, `failed` or `skipped`, and `note` why."""

    base_model: str
    title: str
    rank: int | None = None
    score: float | None = None
    behind: Difference | None = None
    """How far behind the highest score it is."""
    probe: float | None = None
    knn: float | None = None
    logme: float | None = None
    h_score: float | None = None
    seconds: float | None = None
    items_per_second: float | None = None
    memory_bytes: int | None = None
    parameters: int = 0
    state: str = "measured"
    note: str = ""


class Ranking(Resource):
    """Base models in the order of how well they suit the data, and what to take from it in a sentence."""

    candidates: list[Candidate] = []
    items: int
    folds: int
    equal: list[str] = []
    """Those that cannot be told from the first."""
    agreement: dict[str, float] = {}
    sentence: str = ""
