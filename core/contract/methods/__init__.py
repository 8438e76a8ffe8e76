"""The method menu as data: one options class per method, in an explicit registry."""

from typing import Annotated

from pydantic import Field

from core.contract.methods.adabn import AdaBn
from core.contract.methods.adapt_few_shot import AdaptFewShot
from core.contract.methods.anil import Anil
from core.contract.methods.auto import Auto
from core.contract.methods.cdan import Cdan
from core.contract.methods.common import MethodCard, MethodOptions
from core.contract.methods.coral import Coral
from core.contract.methods.cross_modal import CrossModal
from core.contract.methods.dan import Dan
from core.contract.methods.dann import Dann
from core.contract.methods.deep_coral import DeepCoral
from core.contract.methods.domain_shift import DomainShift
from core.contract.methods.domain_weights import DomainWeights
from core.contract.methods.fine_tune import FineTune
from core.contract.methods.gan import Gan
from core.contract.methods.jan import Jan
from core.contract.methods.jda import Jda
from core.contract.methods.kernel_cca import KernelCca
from core.contract.methods.kliep import Kliep
from core.contract.methods.kmm import Kmm
from core.contract.methods.label_shift import LabelShift
from core.contract.methods.linear_ot import LinearOt
from core.contract.methods.linear_probe import LinearProbe
from core.contract.methods.maml import Maml
from core.contract.methods.matching_network import MatchingNetwork
from core.contract.methods.mcc import Mcc
from core.contract.methods.meda import Meda
from core.contract.methods.meta_sgd import MetaSgd
from core.contract.methods.prototype_self_training import PrototypeSelfTraining
from core.contract.methods.prototypical_network import PrototypicalNetwork
from core.contract.methods.r2d2 import R2d2
from core.contract.methods.rank_base_models import RankBaseModels
from core.contract.methods.relation_network import RelationNetwork
from core.contract.methods.reptile import Reptile
from core.contract.methods.selective_pseudo_labels import SelectivePseudoLabels
from core.contract.methods.shot import Shot
from core.contract.methods.simple_shot import SimpleShot
from core.contract.methods.sinkhorn_ot import SinkhornOt
from core.contract.methods.subspace_alignment import SubspaceAlignment
from core.contract.methods.tca import Tca

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
    | PrototypeSelfTraining
    | Kmm
    | Kliep
    | DomainWeights
    | LabelShift
    | SubspaceAlignment
    | Coral
    | Tca
    | Jda
    | LinearOt
    | SinkhornOt
    | KernelCca
    | CrossModal
    | SimpleShot
    | PrototypicalNetwork
    | MatchingNetwork
    | RelationNetwork
    | R2d2
    | Maml
    | Anil
    | Meda
    | MetaSgd
    | Reptile
    | AdaptFewShot,
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
    "kmm": Kmm,
    "kliep": Kliep,
    "domain_weights": DomainWeights,
    "label_shift": LabelShift,
    "subspace_alignment": SubspaceAlignment,
    "coral": Coral,
    "tca": Tca,
    "jda": Jda,
    "linear_ot": LinearOt,
    "sinkhorn_ot": SinkhornOt,
    "kernel_cca": KernelCca,
    "cross_modal": CrossModal,
    "simple_shot": SimpleShot,
    "prototypical_network": PrototypicalNetwork,
    "matching_network": MatchingNetwork,
    "relation_network": RelationNetwork,
    "r2d2": R2d2,
    "maml": Maml,
    "anil": Anil,
    "meda": Meda,
    "meta_sgd": MetaSgd,
    "reptile": Reptile,
    "adapt_few_shot": AdaptFewShot,
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
            episodic=options.episodic,
            needs_target=options.adapts,
            takes_target=options.takes_target(),
            needs_source=not options.source_optional,
            label_spaces=list(options.label_spaces),
            shifts=list(options.shifts),
            options=options.model_json_schema(),
        )
        for name, options in METHODS.items()
    ]


__all__ = [
    "METHODS",
    "AdaBn",
    "AdaptFewShot",
    "Anil",
    "AnyMethod",
    "Auto",
    "Cdan",
    "Coral",
    "CrossModal",
    "Dan",
    "Dann",
    "DeepCoral",
    "DomainShift",
    "DomainWeights",
    "FineTune",
    "Gan",
    "Jan",
    "Jda",
    "KernelCca",
    "Kliep",
    "Kmm",
    "LabelShift",
    "LinearOt",
    "LinearProbe",
    "Maml",
    "MatchingNetwork",
    "Mcc",
    "Meda",
    "MetaSgd",
    "MethodCard",
    "MethodOptions",
    "PrototypeSelfTraining",
    "PrototypicalNetwork",
    "R2d2",
    "RankBaseModels",
    "RelationNetwork",
    "Reptile",
    "SelectivePseudoLabels",
    "Shot",
    "SimpleShot",
    "SinkhornOt",
    "SubspaceAlignment",
    "Tca",
    "method_cards",
]
