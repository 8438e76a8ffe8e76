"""The method menu as data: one options class per method, in an explicit registry."""

from typing import Annotated

from pydantic import Field

from core.contract.methods.auto import Auto
from core.contract.methods.common import MethodCard, MethodOptions
from core.contract.methods.fine_tune import FineTune
from core.contract.methods.linear_probe import LinearProbe
from core.contract.methods.prototype_self_training import PrototypeSelfTraining
from core.contract.methods.rank_base_models import RankBaseModels
from core.contract.methods.selective_pseudo_labels import SelectivePseudoLabels

AnyMethod = Annotated[
    Auto | LinearProbe | FineTune | RankBaseModels | SelectivePseudoLabels | PrototypeSelfTraining,
    Field(discriminator="name"),
]

METHODS: dict[str, type[MethodOptions]] = {
    "auto": Auto,
    "linear_probe": LinearProbe,
    "fine_tune": FineTune,
    "rank_base_models": RankBaseModels,
    "selective_pseudo_labels": SelectivePseudoLabels,
    "prototype_self_training": PrototypeSelfTraining,
}


def method_cards() -> list[MethodCard]:
    """The whole menu, in the registry's order."""
    return [
        MethodCard(
            name=name,
            title=options.title,
            summary=options.summary,
            when=options.when,
            paper=options.paper,
            needs_labels=options.needs_labels,
            needs_target=options.adapts,
            takes_target=options.takes_target(),
            label_spaces=list(options.label_spaces),
            shifts=list(options.shifts),
            options=options.model_json_schema(),
        )
        for name, options in METHODS.items()
    ]


__all__ = [
    "METHODS",
    "AnyMethod",
    "Auto",
    "FineTune",
    "LinearProbe",
    "MethodCard",
    "MethodOptions",
    "PrototypeSelfTraining",
    "RankBaseModels",
    "SelectivePseudoLabels",
    "method_cards",
]
