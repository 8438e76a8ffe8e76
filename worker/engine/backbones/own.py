"""A user's own model as the start of another job: its bundle is read for its manifest and tensors, and nothing else."""

from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor

from core.bundle import read_member
from core.contract.base_models import BaseModelCard, Weights
from core.contract.errors import JobError
from core.contract.models import ModelManifest
from core.contract.prepare import TabularPrepare
from worker.engine.backbones import tabular
from worker.engine.heads import Head, restored

PREFIX = "backbone."


def manifest(bundle: Path) -> ModelManifest:
    """The bundle's manifest; `JobError` `bundle_unreadable` if it is not one."""
    try:
        return ModelManifest.model_validate_json(read_member(bundle, "manifest.json"))
    except ValidationError as error:
        raise _unreadable("manifest.json") from error


def card(found: ModelManifest, root: BaseModelCard) -> BaseModelCard:
    """The parent's card: the network of the base model at the end of its lineage, with its own name and input."""
    return root.model_copy(
        update={
            "id": found.model_id,
            "title": f"{root.title}, adapted",
            "prepare": found.prepare,
            "weights": Weights(source="none", file="model.safetensors"),
            "licence": found.licence,
            "top1": None,
            "note": f"Made by {found.job_id}." if found.job_id else "Imported.",
        }
    )


def table_card(found: ModelManifest, root: BaseModelCard, table: TabularPrepare | None) -> BaseModelCard:
    """The parent's card for another table, whose preparation was made from the parent's; without one for its own."""
    prepare = found.prepare
    if not isinstance(prepare, TabularPrepare):
        raise _unreadable("manifest.json")
    deep = int(found.architecture["width"]) - tabular.encoded_width(prepare)
    return tabular.completed(card(found, root), table or prepare, deep=deep)


def tensors(bundle: Path) -> dict[str, Tensor]:
    """The backbone's tensors under the network's names."""
    return _tensors(bundle, PREFIX)


def head(bundle: Path, found: ModelManifest) -> Head | None:
    """The bundle's head; None where it is an embedding without one."""
    parts = {name: tensor.float().numpy() for name, tensor in _tensors(bundle, "head.").items()}
    if not parts:
        return None
    try:
        return restored(found.architecture, parts)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable("model.safetensors") from error


def _tensors(bundle: Path, prefix: str) -> dict[str, Tensor]:
    try:
        found = parse(read_member(bundle, "model.safetensors"))
    except SafetensorError as error:
        raise _unreadable("model.safetensors") from error
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def _unreadable(name: str) -> JobError:
    return JobError(
        f"The bundle's {name} cannot be read.",
        code="bundle_unreadable",
        hint="Its file on the server is damaged: restore it from a backup, or train the model again.",
    )
