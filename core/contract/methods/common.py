"""What the options of every method share."""

from typing import Any, ClassVar

from pydantic import Field

from core.contract.base import Body, Record


class MethodOptions(Body):
    """Options of one method. Subclasses carry `name: Literal[...]`, bounds, defaults and one sentence per field."""

    title: ClassVar[str]
    summary: ClassVar[str]
    when: ClassVar[str]
    paper: ClassVar[str]
    needs_labels: ClassVar[bool] = True
    takes_base_model: ClassVar[bool] = True
    """Whether a job starts from one base model and is measured on held-out items; else it makes a report alone."""


class MethodCard(Record):
    """A method in the menu, with the JSON Schema of its options."""

    name: str
    object: str = "method"
    title: str
    summary: str
    when: str = Field(description="When to use it.")
    paper: str
    needs_labels: bool
    options: dict[str, Any] = Field(description="JSON Schema of the options.")
