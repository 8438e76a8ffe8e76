"""From a name to a network: finds the card, the weights and the family that builds it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from core.catalogue import find, is_timm
from core.contract.base_models import BaseModelCard
from core.contract.prepare import TabularPrepare
from core.modality.preparers import Preparer, preparer
from worker.engine.backbones import own, weights
from worker.engine.backbones.backbone import Backbone, Identity, digest
from worker.engine.cache import CacheFolder

_MEMO = "1"  # rises when a digest or a derived card means something else


class Opened:
    """A base model that is known, and built only when the network itself is asked for."""

    def __init__(self, identity: Identity, build: Callable[[], nn.Module], tokenizer: bytes | None = None) -> None:
        self.identity = identity
        self.tokenizer = tokenizer
        self._build = build
        self._built: Backbone | None = None

    def preparer(self) -> Preparer:
        """Turns items into its inputs."""
        return preparer(self.identity.card.prepare, self.tokenizer)

    def backbone(self) -> Backbone:
        """The network, the same object every time."""
        if self._built is None:
            card = self.identity.card
            module = self._build().eval()
            stages = _family(card).stages(card, module)
            identity = self.identity
            self._built = Backbone(card, module, identity.weights_digest, stages, identity.lineage, self.tokenizer)
        return self._built


@dataclass(frozen=True)
class _Source:
    """Where weights come from; `memo` tells them from all others without reading them."""

    card: BaseModelCard
    lineage: list[str]
    memo: str
    build: Callable[[], nn.Module]


def open_base(
    base_model: str,
    *,
    weights_dir: Path | None,
    pretrained: bool = True,
    seed: int = 0,
    parent: Path | None = None,
    cache: CacheFolder | None = None,
    table: TabularPrepare | None = None,  # noqa: ARG001
) -> Opened:
    """Find the base model of that name: a card's id, `timm:<name>`, or the user's own model whose bundle is `parent`.

    Without `pretrained` the weights are random, drawn from `seed`. Nothing is built if the cache knows the weights.
    Raises `unknown_base_model`, `weights_missing`, `weights_corrupt` or `bundle_unreadable`.
    """
    source = _source(base_model, weights_dir=weights_dir, pretrained=pretrained, seed=seed, parent=parent, cache=cache)
    known = cache and _recall(cache, source)
    if known:
        return Opened(Identity(source.card, known, source.lineage), source.build)
    module = source.build()
    found = digest(module)
    if cache:
        cache.put("digests", source.memo, lambda path: _write(path, found))
    return Opened(Identity(source.card, found, source.lineage), lambda: module)


def load(
    base_model: str,
    *,
    weights_dir: Path | None,
    pretrained: bool = True,
    seed: int = 0,
    parent: Path | None = None,
    cache: CacheFolder | None = None,
) -> Backbone:
    """Build the backbone; arguments and errors as in `open_base`."""
    return open_base(
        base_model, weights_dir=weights_dir, pretrained=pretrained, seed=seed, parent=parent, cache=cache
    ).backbone()


def identify(
    base_model: str,
    *,
    weights_dir: Path | None,
    pretrained: bool = True,
    seed: int = 0,
    parent: Path | None = None,
    cache: CacheFolder | None = None,
) -> Identity:
    """Which network and weights the name means; arguments and errors as in `open_base`."""
    return open_base(
        base_model, weights_dir=weights_dir, pretrained=pretrained, seed=seed, parent=parent, cache=cache
    ).identity


def _source(
    base_model: str,
    *,
    weights_dir: Path | None,
    pretrained: bool,
    seed: int,
    parent: Path | None,
    cache: CacheFolder | None,
) -> _Source:
    if parent is not None:
        found = own.manifest(parent)
        card = own.card(found, _card((found.lineage or [found.base_model])[-1], cache))
        lineage = [found.model_id, *found.lineage]
        if not pretrained:
            return _random(card, lineage, seed)
        return _Source(card, lineage, _memo(card, _stamp(parent)), partial(_from_bundle, card, parent))
    card = _card(base_model, cache)
    if not pretrained:
        return _random(card, [card.id], seed)
    path = weights.locate(card, weights_dir)
    return _Source(card, [card.id], _memo(card, _stamp(path)), partial(_from_file, card, path))


def _random(card: BaseModelCard, lineage: list[str], seed: int) -> _Source:
    memo = _memo(card, f"random:{seed}:{version('torch')}:{version('torchvision')}:{version('timm')}")
    return _Source(card, lineage, memo, partial(_from_seed, card, seed))


def _from_seed(card: BaseModelCard, seed: int) -> nn.Module:
    family = _family(card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = family.behead(card, family.build(card))
    return module


def _from_file(card: BaseModelCard, path: Path) -> nn.Module:
    family = _family(card)
    found = weights.read(path, card)
    module: nn.Module = _blank(card, lambda: family.build(card))
    _fill(module, family.rename(card, found, list(module.state_dict())), path)
    beheaded: nn.Module = family.behead(card, module)
    return beheaded


def _from_bundle(card: BaseModelCard, parent: Path) -> nn.Module:
    family = _family(card)
    module: nn.Module = _blank(card, lambda: family.behead(card, family.build(card)))
    _fill(module, own.tensors(parent), parent)
    return module


def _blank(card: BaseModelCard, build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose tensors are to be filled; torchvision's need no memory before (timm's have hidden buffers)."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if card.builder == "torchvision" else "cpu"):
        return build()


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise weights.corrupt(path, str(error).partition("\n")[2].strip()[:200]) from error


def _family(card: BaseModelCard) -> ModuleType:
    """The module that builds the card's network: `build`, `behead`, `rename`, `stages`."""
    if card.builder == "torchvision":
        from worker.engine.backbones import torchvision_

        return torchvision_
    from worker.engine.backbones import timm_

    return timm_


def _card(base_model: str, cache: CacheFolder | None) -> BaseModelCard:
    if not is_timm(base_model):
        return find(base_model)
    key = f"{_MEMO}:{version('timm')}:{base_model}"
    kept = cache and cache.get("cards", key)
    if kept:
        return BaseModelCard.model_validate_json(kept.read_bytes())
    from worker.engine.backbones import timm_

    card = timm_.card(base_model)
    if cache:
        cache.put("cards", key, lambda path: _write(path, card.model_dump_json()))
    return card


def _memo(card: BaseModelCard, what: str) -> str:
    return f"{_MEMO}:{card.builder}:{card.architecture}:{what}"


def _stamp(path: Path) -> str:
    """A file's identity without reading it: its path, size and time of change."""
    facts = path.stat()
    return hashlib.sha256(f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()


def _recall(cache: CacheFolder, source: _Source) -> str | None:
    kept = cache.get("digests", source.memo)
    return None if kept is None else kept.read_text(encoding="ascii")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
