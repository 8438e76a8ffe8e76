"""What the options of every method share."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from core.contract.base import Body, Record

LabelSpace = Literal["closed", "partial"]
Shift = Literal["covariate", "label", "conditional", "general"]


class MethodOptions(Body):
    """Options of one method. Subclasses carry `name: Literal[...]`, bounds, defaults and one sentence per field."""

    title: ClassVar[str]
    summary: ClassVar[str]
    when: ClassVar[str]
    paper: ClassVar[str]
    needs_labels: ClassVar[bool] = True
    episodic: ClassVar[bool] = False
    """Whether it is measured on episodes of classes that nothing was trained on."""
    takes_base_model: ClassVar[bool] = True
    """Whether a job starts from one base model."""
    makes_model: ClassVar[bool] = True
    """Whether it makes a model, which is measured; else a report alone."""
    adapts: ClassVar[bool] = False
    """Whether it needs a `target`: data of the new domain to adapt to."""
    target_optional: ClassVar[bool] = False
    """Whether it runs with a `target` and without one."""
    source_optional: ClassVar[bool] = False
    """Whether it runs without a `source`, from one of the user's own classifiers, whose classes stay."""
    of_source: ClassVar[tuple[str, ...]] = ()
    """Options that say how to learn from a source: without one they mean nothing."""
    label_spaces: ClassVar[tuple[LabelSpace, ...]] = ("closed",)
    """Which classes the target may have of the source's: all of them (`closed`), or some of them only (`partial`)."""
    shifts: ClassVar[tuple[Shift, ...]] = ()
    """Kinds of shift it is made for."""
    heterogeneous: ClassVar[bool] = False
    """Whether source and target may be of different modalities, or have different columns."""
    trains_network: ClassVar[bool] = False
    """Whether it trains the network by gradient descent; else it works on features of the frozen base model."""

    @classmethod
    def takes_target(cls) -> bool:
        """Whether a job of it may name a `target`."""
        return cls.adapts or cls.target_optional


class MethodCard(Record):
    """A method in the menu, with the JSON Schema of its options."""

    name: str
    object: str = "method"
    title: str
    summary: str
    when: str = Field(description="When to use it.")
    paper: str
    needs_labels: bool
    episodic: bool = Field(
        default=False, description="Whether it is measured on few-shot episodes of classes that nothing was trained on."
    )
    needs_target: bool = Field(description="Whether a job needs a `target`: data of the new domain to adapt to.")
    takes_target: bool = Field(description="Whether a job may name a `target`.")
    needs_source: bool = Field(
        description="Whether a job needs a `source`; where not, one of your own classifiers can be the `base_model`."
    )
    label_spaces: list[LabelSpace] = Field(
        description="Which classes the target may have of the source's: all (`closed`), or only some (`partial`)."
    )
    shifts: list[Shift] = Field(description="Kinds of domain shift it is made for; none where it does not adapt.")
    options: dict[str, Any] = Field(description="JSON Schema of the options.")
