"""Finds, checks and reads weights files. Only safetensors and `torch.load(weights_only=True)`, never a pickle."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file

from core.catalogue import HF_PREFIX
from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from worker.engine.backbones import hub

Tensors = dict[str, torch.Tensor]


def locate(card: BaseModelCard, weights_dir: Path | None, name: str | None = None) -> Path:
    """The file with the card's weights: in GRAFT_WEIGHTS_DIR, in its package, or at its hub (fetched if reachable).

    `name` is that of a file that lies beside them. Raises `JobError` `weights_missing` that says which file to put
    where.
    """
    found = _beside(card, weights_dir, name) or hub.fetch(card, name)
    if found is None:
        raise _missing(card, weights_dir) if card.builder != "transformers" else _no_text_file(card, name)
    return found


def here(card: BaseModelCard, weights_dir: Path | None) -> bool:
    """Whether the card's weights are on this machine, or it needs none: nothing is fetched to find out."""
    return card.weights.source == "none" or bool(_beside(card, weights_dir) or hub.kept(card))


def _beside(card: BaseModelCard, weights_dir: Path | None, name: str | None = None) -> Path | None:
    """The file in GRAFT_WEIGHTS_DIR or in the card's package."""
    names = [name] if name else _names(card)
    folders = (_own_folder(card, weights_dir), _package_folder(card))
    places = (folder / file for folder in folders if folder for file in names)
    return next((path for path in places if path.is_file()), None)


def text_folder(card: BaseModelCard) -> str:
    """Folder of GRAFT_WEIGHTS_DIR in which the files of a text encoder lie."""
    return card.id.removeprefix(HF_PREFIX)


def _own_folder(card: BaseModelCard, weights_dir: Path | None) -> Path | None:
    if weights_dir is None or card.builder != "transformers":
        return weights_dir
    return weights_dir / text_folder(card)


def _names(card: BaseModelCard) -> list[str]:
    """File names to look for: the published one first, then the plain name of the architecture."""
    published = card.weights.file or card.architecture
    if card.builder == "transformers":  # in a folder of its own, and never a pickle
        return [published]
    stem = published.removesuffix(".pth").removesuffix(".safetensors")
    names = [published, f"{stem}.safetensors", f"{stem}.pth"]
    return list(dict.fromkeys([*names, f"{card.architecture}.safetensors", f"{card.architecture}.pth"]))


def _package_folder(card: BaseModelCard) -> Path | None:
    if card.weights.source != "package" or card.weights.package is None:
        return None
    found = find_spec(card.weights.package.replace("-", "_"))
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / (card.weights.folder or "models")


def _missing(card: BaseModelCard, weights_dir: Path | None) -> JobError:
    weights = card.weights
    prefix = weights.sha256_prefix or (weights.sha256 or "")[:8]
    place = "the folder that GRAFT_WEIGHTS_DIR names" if weights_dir is None else "GRAFT_WEIGHTS_DIR"
    install = f"Install the package {weights.package}, or put" if weights.package else "Put"
    digits = f" (its SHA-256 begins with {prefix})" if prefix else ""
    return JobError(
        f"The weights of {card.id} are not on this machine and could not be fetched.",
        code="weights_missing",
        param="base_model",
        hint=f"{install} {weights.file}{digits} into {place}; "
        f"{card.architecture}.pth or {card.architecture}.safetensors with the same tensors will do too.",
        details={"file": weights.file, "sha256_prefix": prefix, "package": weights.package},
    )


def _no_text_file(card: BaseModelCard, name: str | None) -> JobError:
    file, package = name or card.weights.file, card.weights.package
    return JobError(
        f"{file} of {card.id} is not on this machine and could not be fetched.",
        code="weights_missing",
        param="base_model",
        hint=f"{f'Install the package {package}, or put' if package else 'Put'} config.json, model.safetensors and "
        f"tokenizer.json of {card.weights.entry} into the folder {text_folder(card)} of GRAFT_WEIGHTS_DIR.",
        details={"file": file, "package": package},
    )


def read(path: Path, card: BaseModelCard) -> Tensors:
    """Check the file and read its tensors, on the CPU; `JobError` `weights_corrupt` if it is not what it should be."""
    _check(path, card)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its parser stumbles over
        raise corrupt(path, "it cannot be read") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise corrupt(path, "it does not hold a plain table of tensors")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _check(path: Path, card: BaseModelCard) -> None:
    """A file under its published name must have the published checksum; another may have `<file>.sha256` beside it."""
    beside = path.with_name(path.name + ".sha256")
    expected = None
    if beside.is_file():
        expected = beside.read_text(encoding="utf-8").split()[0].lower()
    elif path.name == card.weights.file:
        expected = card.weights.sha256 or card.weights.sha256_prefix
    if not expected:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(expected):
        raise corrupt(path, f"its SHA-256 begins with {actual[: len(expected[:16])]}, not with {expected[:16]}")


def corrupt(path: Path, why: str) -> JobError:
    """The error for a weights file that is not what it should be; names the file, not its folder."""
    return JobError(
        f"The weights file {path.name} is damaged or belongs to another network: {why}.",
        code="weights_corrupt",
        param="base_model",
        hint="Fetch it again, or delete it.",
        details={"file": path.name},
    )
