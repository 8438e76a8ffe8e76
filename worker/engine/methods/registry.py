"""The methods by name: each has `run(task)`, which trains and hands back a head and, if it was trained, a network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.contract.jobs import StepName
from worker.engine.backbones import Base
from worker.engine.few_shot import settling as few
from worker.engine.methods import (
    adabn,
    adapt_few_shot,
    anil,
    auto,
    cdan,
    coral,
    cross_modal,
    dan,
    dann,
    deep_coral,
    domain_shift,
    domain_weights,
    fine_tune,
    gan,
    jan,
    jda,
    kernel_cca,
    kliep,
    kmm,
    label_shift,
    linear_ot,
    linear_probe,
    maml,
    matching_network,
    mcc,
    meda,
    meta_sgd,
    prototype_self_training,
    prototypical_network,
    r2d2,
    rank_base_models,
    relation_network,
    reptile,
    selective_pseudo_labels,
    settling,
    shot,
    simple_shot,
    sinkhorn_ot,
    subspace_alignment,
    tca,
)
from worker.engine.task import Finding, Trained

Shares = dict[StepName, float]
FROZEN: Shares = {"prepare": 1, "features": 70, "train": 8, "compare": 4, "evaluate": 1, "export": 10}
TRAINED: Shares = {"prepare": 1, "features": 8, "train": 80, "compare": 4, "evaluate": 1, "export": 8}
RACED: Shares = {"prepare": 1, "features": 20, "train": 70, "compare": 4, "evaluate": 1, "export": 6}
REPORTED: Shares = {"prepare": 1, "compare": 99}
MEASURED: Shares = {"prepare": 1, "features": 90, "train": 9}


@dataclass(frozen=True)
class Method:
    """What the engine has to know of a method; options are of the method's own class."""

    run: Callable[[Any], Trained | Finding]
    """Takes a `Task`, or an `Exploration` where the method `explores`."""
    needs_features: Callable[[Any], bool] = lambda _options: True
    """Whether it works on the frozen base model's features."""
    check: Callable[[Any, Base], None] = lambda _options, _base: None
    """Refuses options that do not fit the base model, before anything is computed."""
    explores: bool = False
    """Whether it looks at several base models and makes none: there is no base model to start from then."""
    shares: Shares = field(default_factory=lambda: FROZEN)
    """What its steps take of a job's time, as they usually are."""


METHODS: dict[str, Method] = {
    "auto": Method(auto.run, shares=RACED),
    "linear_probe": Method(linear_probe.run),
    "fine_tune": Method(fine_tune.run, fine_tune.needs_features, fine_tune.check, shares=TRAINED),
    "selective_pseudo_labels": Method(selective_pseudo_labels.run),
    "prototype_self_training": Method(prototype_self_training.run),
    "kmm": Method(kmm.run),
    "kliep": Method(kliep.run),
    "domain_weights": Method(domain_weights.run),
    "label_shift": Method(label_shift.run),
    "subspace_alignment": Method(subspace_alignment.run),
    "coral": Method(coral.run),
    "tca": Method(tca.run),
    "jda": Method(jda.run),
    "meda": Method(meda.run),
    "linear_ot": Method(linear_ot.run),
    "sinkhorn_ot": Method(sinkhorn_ot.run),
    "kernel_cca": Method(kernel_cca.run),
    "cross_modal": Method(cross_modal.run),
    "rank_base_models": Method(rank_base_models.run, explores=True, shares=REPORTED),
    "domain_shift": Method(domain_shift.run, shares=MEASURED),
    "mcc": Method(mcc.run, check=settling.check, shares=TRAINED),
    "shot": Method(shot.run, check=settling.check, shares=TRAINED),
    "cdan": Method(cdan.run, check=settling.check, shares=TRAINED),
    "dann": Method(dann.run, check=settling.check, shares=TRAINED),
    "dan": Method(dan.run, check=settling.check, shares=TRAINED),
    "jan": Method(jan.run, check=settling.check, shares=TRAINED),
    "deep_coral": Method(deep_coral.run, check=settling.check, shares=TRAINED),
    "adabn": Method(adabn.run, check=adabn.check, shares=TRAINED),
    "simple_shot": Method(simple_shot.run, check=simple_shot.check),
    "prototypical_network": Method(prototypical_network.run, few.needs_features, few.check, shares=TRAINED),
    "matching_network": Method(matching_network.run, few.needs_features, few.check, shares=TRAINED),
    "relation_network": Method(relation_network.run, few.needs_features, few.check, shares=TRAINED),
    "r2d2": Method(r2d2.run, few.needs_features, few.check, shares=TRAINED),
    "maml": Method(maml.run, few.needs_features, few.check, shares=TRAINED),
    "anil": Method(anil.run, few.needs_features, few.check, shares=TRAINED),
    "meta_sgd": Method(meta_sgd.run, few.needs_features, few.check, shares=TRAINED),
    "reptile": Method(reptile.run, few.needs_features, few.check, shares=TRAINED),
    "adapt_few_shot": Method(adapt_few_shot.run, adapt_few_shot.needs_features),
    "gan": Method(gan.run, check=gan.check, shares=TRAINED),
}
