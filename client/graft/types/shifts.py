"""The shift between source and target."""

from graft.types.base import Resource


class ShiftTest(Resource):
    """A test of whether the domains are alike: `mmd` or `classifier`; the interval is that of the effect."""

    name: str
    statistic: float
    effect: float
    low: float
    high: float
    p_value: float


class LabelShift(Resource):
    """Whether the classes' shares have moved: total variation with its interval."""

    distance: float
    low: float
    high: float
    p_value: float
    explained: float | None = None
    """Share of the discrepancy that goes with the shares."""


class ClassShift(Resource):
    """A class of the source and what is taken for it in the target."""

    name: str
    source_items: int
    target_items: int
    source_share: float
    target_share: float
    distance: float | None = None


class Driver(Resource):
    """An item that makes the shift; `domain` is `source` or `target`."""

    name: str
    domain: str
    probability: float


class Cloud(Resource):
    """Items in two dimensions: x, y, number of the class (-1 without)."""

    source: list[tuple[float, float, int]] = []
    target: list[tuple[float, float, int]] = []
    explained: float


class ShiftAfter(Resource):
    """The same after adaptation."""

    tests: list[ShiftTest] = []
    cloud: Cloud


class Shift(Resource):
    """How far the target lies from the source, of which `kind` that is, and what fits it."""

    kind: str
    size: str
    sentence: str
    methods: list[str] = []
    tests: list[ShiftTest] = []
    level: float
    permutations: int
    source_items: int
    target_items: int
    overlap: float
    """Effective share of the source items once they are weighted to look like the target."""
    labels: LabelShift | None = None
    classes: list[ClassShift] = []
    common: float | None = None
    drivers: list[Driver] = []
    before: Cloud
    after: ShiftAfter | None = None
