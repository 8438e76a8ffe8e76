"""The two kinds of upload: a state dict of a network that is named beside it, and the bundle of a Graft."""

from dataclasses import dataclass, replace
from typing import BinaryIO

import torch

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.models import ModelManifest
from worker.engine.backbones.own import PREFIX
from worker.engine.heads import Normalise
from worker.engine.importing import records
from worker.engine.importing.architecture import Anatomy, Wanted, anatomy, card_of, check_names
from worker.engine.importing.door import ImportSpec
from worker.engine.importing.header import TensorEntry
from worker.engine.importing.network import Network, from_parts, from_state, not_linear
from worker.engine.importing.synthetic import images
from worker.engine.importing.upload import check_classes
from worker.engine.importing.values import CONVERTED, read_tensors

_IMAGENET = 1000
_HEAD_NAMES = {"head.weight", "head.bias", "head.mean", "head.scale"}


@dataclass(frozen=True)
class Checked:
    """A network out of an upload, with what is said of it."""

    network: Network
    base_model: str
    card: BaseModelCard
    classes: list[str]
    temperature: float
    notes: list[str]


def plain(file: BinaryIO, entries: dict[str, TensorEntry], spec: ImportSpec) -> Checked:
    """A state dict of the network that was named."""
    if spec.base_model is None:
        raise JobError(
            "Nobody said which network these weights are for.",
            code="base_model_required",
            param="base_model",
            hint="Send base_model: a card's id (GET /base-models) or timm:<name>.",
        )
    check_classes(spec.classes or [], spec.max_classes)
    whole = anatomy(spec.base_model)
    headed = _headed(entries, whole, spec)
    wanted = whole.backbone | (_sized(whole, entries) if headed else {})
    ignored = {} if headed else whole.head
    check_names({name: one for name, one in entries.items() if name not in ignored}, wanted, spec.base_model)
    tensors = read_tensors(file, entries, wanted)
    notes = _conversions(entries)
    card, lineage = card_of(spec.base_model), [spec.base_model]
    if headed:
        network = from_state(card, lineage, whole, tensors, torch.from_numpy(images(card.prepare)))
    else:
        network = from_parts(card, lineage, tensors, {}, "none")
        notes.append("It has no classifier: run a job that starts from it to get one.")
    if ignored.keys() & entries.keys():
        notes.append("The upload's own classifier was left out, for its outputs have no names here.")
    names = spec.classes or [str(number) for number in range(_IMAGENET)] if headed else []
    if headed and not spec.classes:
        notes.append("The classes are ImageNet's 1000, by their index.")
    return Checked(network, spec.base_model, card, names, 1.0, notes)


def _headed(entries: dict[str, TensorEntry], whole: Anatomy, spec: ImportSpec) -> bool:
    """Whether the upload's classifier is taken over; `JobError` if it must be and cannot."""
    outputs = _outputs(entries, whole)
    if not spec.classes:
        return outputs == _IMAGENET
    if outputs is None and whole.head.keys() & entries.keys():
        raise not_linear(str(spec.base_model))
    if outputs is None:
        raise JobError(
            "Classes are named, and the weights have no classifier.",
            code="head_missing",
            param="classes",
            hint=f"Include {' and '.join(list(whole.head)[:2])}, or leave `classes` out to import a base model.",
        )
    if outputs != len(spec.classes):
        raise JobError(
            f"The classifier has {outputs} outputs, and {len(spec.classes)} classes are named.",
            code="classes_mismatch",
            param="classes",
            hint="Name every output, in the order of the classifier's rows.",
            details={"outputs": outputs, "classes": len(spec.classes)},
        )
    return True


def _outputs(entries: dict[str, TensorEntry], whole: Anatomy) -> int | None:
    """Rows of the upload's classifier; None where there is none, or not one linear layer."""
    entry = None if whole.linear is None else entries.get(f"{whole.linear}.weight")
    return entry.shape[0] if entry is not None and len(entry.shape) == 2 else None


def _sized(whole: Anatomy, entries: dict[str, TensorEntry]) -> dict[str, Wanted]:
    """The classifier's tensors, with the upload's number of outputs."""
    rows = _outputs(entries, whole)
    return {name: replace(one, shape=(rows, *one.shape[1:])) for name, one in whole.head.items() if rows is not None}


def bundled(file: BinaryIO, entries: dict[str, TensorEntry], found: ModelManifest) -> Checked:
    """The network of a bundle of a Graft: `backbone.*` of the one at the end of its lineage, and `head.*`."""
    base_model = records.root_of(found)
    wanted = {PREFIX + name: one for name, one in anatomy(base_model).backbone.items()}
    heads = {name: entry for name, entry in entries.items() if name in _HEAD_NAMES}
    check_names({name: entry for name, entry in entries.items() if name not in heads}, wanted, base_model)
    card = card_of(base_model).model_copy(update={"prepare": found.prepare})
    normalise = records.normalise_of(found, set(heads)) if found.classes else "none"
    parts = _head_parts(normalise, len(found.classes), card.width) if found.classes else {}
    check_names(heads, parts, base_model)
    tensors = read_tensors(file, entries, wanted)
    network = from_parts(
        card,
        [base_model],
        {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()},
        {name.removeprefix("head."): tensor for name, tensor in read_tensors(file, entries, parts).items()},
        normalise,
    )
    return Checked(network, base_model, card, found.classes, found.temperature, _conversions(entries))


def _head_parts(normalise: Normalise, classes: int, width: int) -> dict[str, Wanted]:
    parts = {"head.weight": Wanted((classes, width), torch.float32), "head.bias": Wanted((classes,), torch.float32)}
    vectors = {"standardise": ("mean", "scale"), "centred_l2": ("mean",)}.get(normalise, ())
    parts |= {f"head.{name}": Wanted((width,), torch.float32) for name in vectors}
    return parts


def _conversions(entries: dict[str, TensorEntry]) -> list[str]:
    found = sorted({entry.dtype for entry in entries.values()} & set(CONVERTED))
    return [f"Values of type {' and '.join(found)} were converted to F32."] if found else []
