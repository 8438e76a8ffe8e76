"""The facts of a job that its cost depends on."""

from dataclasses import dataclass, field
from typing import Any, Literal

from core.contract.base_models import BaseModelCard
from core.contract.datasets import Modality, Problem
from core.contract.jobs import Baselines
from core.contract.methods import AnyMethod


@dataclass(frozen=True)
class Device:
    """What a worker runs jobs on."""

    name: str
    """Kind, model and threads: figures of one name can be compared."""
    kind: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    memory_bytes: int | None = None
    """What a job may use at most: of the machine's memory, or of the GPU's."""
    disk_bytes: int | None = None
    """Free on the disk of the data folder."""


@dataclass(frozen=True)
class Part:
    """A data set as a job reads it: all its items are embedded, whatever their splits."""

    sha256: str
    """Of its manifest."""
    items: int
    cached: bool = False
    """Whether its features are there already."""


@dataclass(frozen=True)
class Work:
    """One job: what it asks for, on what, from what."""

    method: AnyMethod
    modality: Modality
    problem: Problem
    network: str
    """Name of the architecture: a card's id, or `timm:<name>`."""
    base: str
    """The base model itself: the network with its weights."""
    train: int
    validation: int
    held_out: int
    parts: tuple[Part, ...]
    outputs: int = 2
    card: BaseModelCard | None = None
    aspect: float = 4 / 3
    """Of a typical image: the longer side to the shorter."""
    tokens: int = 128
    """Of a typical text."""
    baselines: Baselines = "quick"
    max_seconds: float | None = None
    graph_cached: bool = False
    """Whether the base model's exported graph is there already."""
    resolved: dict[str, Any] | None = None
    """The method's options as the worker would use them, where that is known."""
    scratch: dict[str, Any] | None = None
    """The same of a training from random weights."""
    target: int = 0
    """Items of the new domain that it adapts to."""
    alone: bool = False
    """Whether there is no source: these are the items that it trains on, too."""
    candidates: tuple[BaseModelCard, ...] = field(default=())
    """What a ranking would look at."""

    @property
    def data(self) -> str:
        """SHA-256 of the manifest of what is learnt from: the source, or, without one, the target."""
        return self.parts[0].sha256

    @property
    def items(self) -> int:
        """Items of all data sets."""
        return sum(part.items for part in self.parts)

    @property
    def fresh(self) -> int:
        """Items whose features have to be made."""
        return sum(part.items for part in self.parts if not part.cached)

    @property
    def learnt(self) -> int:
        """Items that a method on frozen features looks at."""
        return self.train + self.validation + (0 if self.alone else self.target)

    @property
    def checked(self) -> int:
        """Items that are looked at after an epoch: those of the target without their labels."""
        return self.validation + self.target

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return (self.card.width if self.card else 0) or 512

    @property
    def parameters(self) -> int:
        """Of the network; a usual figure where there is no card."""
        if self.card is None:
            return 25_000_000
        return self.card.parameters or 100_000
