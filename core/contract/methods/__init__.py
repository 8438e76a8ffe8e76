"""The method menu as data: one options class per method, in an explicit registry."""

from typing import Annotated

from pydantic import Field

from core.contract.methods.adabn import AdaBn
from core.contract.methods.auto import Auto
from core.contract.methods.cdan import Cdan
from core.contract.methods.common import MethodCard, MethodOptions
from core.contract.methods.dan import Dan
from core.contract.methods.dann import Dann
from core.contract.methods.deep_coral import DeepCoral
from core.contract.methods.domain_shift import DomainShift
from core.contract.methods.fine_tune import FineTune
from core.contract.methods.gan import Gan
from core.contract.methods.jan import Jan
from core.contract.methods.linear_probe import LinearProbe
from core.contract.methods.mcc import Mcc
from core.contract.methods.prototype_self_training import PrototypeSelfTraining
from core.contract.methods.rank_base_models import RankBaseModels
from core.contract.methods.selective_pseudo_labels import SelectivePseudoLabels
from core.contract.methods.shot import Shot

AnyMethod = Annotated[
    Mcc
    | Shot
    | Cdan
    | Dann
    | Dan
    | Jan
    | DeepCoral
    | AdaBn
    | Gan
    | Auto
    | LinearProbe
    | FineTune
    | RankBaseModels
    | DomainShift
    | SelectivePseudoLabels
    | PrototypeSelfTraining,
    Field(discriminator="name"),
]

METHODS: dict[str, type[MethodOptions]] = {
    "auto": Auto,
    "linear_probe": LinearProbe,
    "fine_tune": FineTune,
    "rank_base_models": RankBaseModels,
    "domain_shift": DomainShift,
    "selective_pseudo_labels": SelectivePseudoLabels,
    "prototype_self_training": PrototypeSelfTraining,
    "mcc": Mcc,
    "shot": Shot,
    "cdan": Cdan,
    "dann": Dann,
    "dan": Dan,
    "jan": Jan,
    "deep_coral": DeepCoral,
    "adabn": AdaBn,
    "gan": Gan,
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
    "AdaBn",
    "AnyMethod",
    "Auto",
    "Cdan",
    "Dan",
    "Dann",
    "DeepCoral",
    "DomainShift",
    "FineTune",
    "Gan",
    "Jan",
    "LinearProbe",
    "Mcc",
    "MethodCard",
    "MethodOptions",
    "PrototypeSelfTraining",
    "RankBaseModels",
    "SelectivePseudoLabels",
    "Shot",
    "method_cards",
]
