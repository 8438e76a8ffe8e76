"""A training by gradient descent, as far as its cost depends on its options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.contract.methods import FineTune
from core.contract.methods.deep import DeepAdaptation

_USUAL: dict[str, Any] = {  # of what is left open and nobody has resolved
    "epochs": 8,
    "batch_size": 16,
    "early_stop": 3,
    "ema": 0.99,
    "augmentation": "standard",
    "lora_rank": None,
}
_OPEN = ("epochs", "batch_size", "freeze", "augmentation", "ema")  # what an adaptation's course depends on


@dataclass(frozen=True)
class Course:
    """How long and in what steps a network is trained."""

    epochs: int
    batch_size: int
    freeze: str = "none"
    patience: int | None = None
    scratch: bool = False
    head_start: bool = True
    averaged: bool = False
    """Whether a moving average of the weights is validated, too."""
    augmentation: str = "standard"
    lora_rank: int | None = None
    searched: bool = False
    """Whether weights between the first and the last are tried."""
    settled: bool = True
    """Whether nothing was left open."""
    domains: int = 1
    """Items in a step for each that is counted: two, where every source item goes with one of the target."""

    @property
    def network(self) -> bool:
        """Whether the network itself is in the loop; else a head alone learns from cached features."""
        return not (self.freeze == "all" and self.augmentation == "none" and not self.scratch)

    @property
    def features(self) -> bool:
        """Whether the frozen base model's features are needed."""
        return not self.scratch and (self.head_start or not self.network)

    @property
    def variant(self) -> str:
        """What one step's seconds depend on besides the network and the data."""
        return f"{self.style}|{self.batch_size}"

    @property
    def style(self) -> str:
        """The same without the size of a batch."""
        if not self.network:
            return f"{self._both}head"
        return f"{self._both}{self.freeze}{self._lora}+{self.augmentation}"

    @property
    def _both(self) -> str:
        return "" if self.domains == 1 else "both domains+"

    @property
    def _lora(self) -> str:
        return "" if self.lora_rank is None else f"+lora{self.lora_rank}"

    @property
    def held(self) -> str:
        """What the memory of training depends on besides the network: not on how its items are augmented."""
        if not self.network:
            return f"{self._both}head|{self.batch_size}"
        return f"{self._both}{self.freeze}{self._lora}|{self.batch_size}"

    def like(self, variant: str) -> bool:
        """Whether a step's seconds of that variant are of the same training but for augmentation and batch size."""
        body = variant.rpartition("|")[0].rpartition("+")[0]
        return self.network and body == f"{self._both}{self.freeze}{self._lora}"

    def steps(self, items: int) -> int:
        """How many steps it takes with so many training items."""
        return self.epochs * -(-items // self.batch_size)

    @property
    def shortest(self) -> int:
        """Epochs after which it may end by itself at the earliest."""
        return self.epochs if self.patience is None else min(self.epochs, self.patience)


def adapting_course(
    options: DeepAdaptation, resolved: Mapping[str, Any] | None, *, scratch: bool, alone: bool = False
) -> Course:
    """The course of a training on both domains, or on the target `alone`.

    `resolved` is what became of what was left to the service.
    """
    values = _USUAL | {"freeze": "none"} | options.model_dump()
    known = resolved or {}
    open_ = [name for name in _OPEN if values[name] == "auto"]
    values |= {name: known.get(name, _USUAL.get(name, "none")) for name in open_}
    return Course(
        epochs=values["epochs"],
        batch_size=values["batch_size"],
        freeze=values["freeze"],
        patience=values["early_stop"],
        scratch=scratch or values["init"] == "scratch",
        head_start=False,
        averaged=values["ema"] is not None,
        augmentation=values["augmentation"],
        settled=all(name in known for name in open_),
        domains=1 if alone else 2,
    )


def course_of(options: FineTune, resolved: Mapping[str, Any] | None, *, modality: str) -> Course:
    """The course that these options lead to; `resolved` is what became of those left to the service."""
    values = options.model_dump()
    known = {} if resolved is None else {name: value for name, value in resolved.items() if name in values}
    settled = True
    for name, usual in _USUAL.items():
        if values.get(name, usual) == "auto" or name not in values:
            settled &= name in known or name not in values
            values[name] = known.get(name, usual)
    augmentation = values["augmentation"] if modality == "image" else "none"
    if options.freeze == "all" and options.augmentation == "auto" and options.init == "pretrained":
        augmentation = "none"
    return Course(
        epochs=values["epochs"],
        batch_size=values["batch_size"],
        freeze=options.freeze,
        patience=values["early_stop"],
        scratch=options.init == "scratch",
        head_start=options.head_start,
        averaged=values["ema"] is not None,
        augmentation=augmentation,
        lora_rank=values["lora_rank"],
        searched=values.get("wise_ft") is not None,
        settled=settled,
    )
