"""The shift between source and target: how far they lie apart, of which kind it is, and what fits it."""

from typing import Literal

from pydantic import Field

from core.contract.base import Record

ShiftKind = Literal["none", "covariate", "label", "conditional", "general"]
ShiftSize = Literal["negligible", "small", "medium", "large"]
Spot = tuple[float, float, int]


class ShiftTest(Record):
    """A permutation test of whether source and target items come from one distribution."""

    name: Literal["mmd", "classifier"]
    statistic: float = Field(
        description="`mmd`: unbiased squared maximum mean discrepancy; `classifier`: how often a cross-validated "
        "linear classifier tells the domain, both counting alike (0.5 is chance)."
    )
    effect: float = Field(
        description="`mmd`: share of the items' spread in kernel space that lies between the domains; `classifier`: "
        "the proxy A-distance 2 (1 - 2 error), from 0 where the domains are alike to 2 where they never mix."
    )
    low: float = Field(description="Lower end of the effect's 95 % interval.")
    high: float
    p_value: float = Field(description="With enough items every shift is significant: read the effect first.")


class LabelShift(Record):
    """Whether the classes' shares have moved, told from predicted classes and how often they are mistaken (BBSE)."""

    distance: float = Field(description="Total variation between the shares, 0 … 1.")
    low: float = Field(description="Lower end of its 95 % interval.")
    high: float
    p_value: float = Field(description="That classes are predicted as often in the target as in the source.")
    explained: float | None = Field(
        description="Share of the discrepancy that goes away once source items count by the target's class shares; "
        "null where the discrepancy may be chance."
    )


class ClassShift(Record):
    """A class of the source and what is taken for it in the target."""

    name: str
    source_items: int
    target_items: int = Field(description="Target items that a classifier of the source takes for it.")
    source_share: float
    target_share: float = Field(description="Estimated, mistakes being allowed for.")
    distance: float | None = Field(
        description="Between the two means, in units of how far its items lie from their mean; null without items."
    )


class Driver(Record):
    """An item that makes the shift."""

    name: str
    domain: Literal["source", "target"]
    probability: float = Field(description="Of its own domain, by a classifier that was fitted without it.")


class Cloud(Record):
    """Items in two dimensions, the first principal axes of both domains: x, y, number of the class (-1 without)."""

    source: list[Spot] = Field(max_length=400)
    target: list[Spot] = Field(max_length=400, description="The class is the one it is taken for.")
    explained: float = Field(description="Share of the items' spread that the two axes show.")


class ShiftAfter(Record):
    """The same after adaptation."""

    tests: list[ShiftTest]
    cloud: Cloud


class Shift(Record):
    """The shift between source and target."""

    kind: ShiftKind = Field(
        description="`none`: not to be told from chance; `label`: class shares moved, classes did not; `covariate`: "
        "inputs moved, but the source covers the target; `general`: moved out of its reach, all classes alike; "
        "`conditional`: each class in its own way."
    )
    size: ShiftSize = Field(
        description="By the A-distance (of a label shift, that of the class shares if it is more): below 0.2 "
        "negligible, 0.6 small, 1.2 medium, else large."
    )
    sentence: str
    methods: list[str] = Field(
        description="Methods that fit this kind: on frozen features before networks, the proved ones first."
    )
    tests: list[ShiftTest]
    level: float = Field(description="Level of significance of both tests together.")
    permutations: int
    source_items: int = Field(description="Source items that were looked at.")
    target_items: int
    overlap: float = Field(
        description="Effective sample size of the source items weighted to look like the target, as a share of them: "
        "at 0.1 or less the source does not cover the target."
    )
    labels: LabelShift | None = Field(default=None, description="Of a classification.")
    classes: list[ClassShift] = []
    common: float | None = Field(default=None, description="Share of the classes' moves that all of them make alike.")
    drivers: list[Driver] = Field(
        default=[], description="Target items least like the source, and source items least like the target."
    )
    before: Cloud
    after: ShiftAfter | None = Field(default=None, description="Null where nothing was adapted.")
