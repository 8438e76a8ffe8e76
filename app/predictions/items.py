"""What a request asks to predict, however it came."""

from dataclasses import dataclass, field

from core.contract.models import ItemError
from core.modality.preparers import Arrays

NAME = 256  # characters of an item's name
Cell = str | float | bool | None


@dataclass(frozen=True)
class RawItem:
    """One item as it came: a file's bytes, a text or a row, or why there is none."""

    name: str | None
    data: bytes | str | dict[str, Cell] = b""
    error: ItemError | None = None


@dataclass(frozen=True)
class Inputs:
    """The items of a request."""

    items: list[RawItem] = field(default_factory=list)
    top_k: int | None = None


@dataclass(frozen=True)
class Prepared:
    """An item's inputs of the network, or why there are none; and what is doubtful about it."""

    arrays: Arrays = ()
    error: ItemError | None = None
    warnings: tuple[str, ...] = ()
