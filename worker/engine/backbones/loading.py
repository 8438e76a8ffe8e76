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

from core.catalogue import find, is_hf, is_timm
from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.models import ModelManifest
from core.contract.prepare import Prepare, TabularPrepare
from core.modality.preparers import Preparer, preparer
from worker.engine.backbones import own, texts, weights
from worker.engine.backbones.backbone import Backbone, Identity, digest, shape
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
    tokenizer: bytes | None = None


def open_base(
    base_model: str,
    *,
    weights_dir: Path | None,
    pretrained: bool = True,
    seed: int = 0,
    parent: Path | None = None,
    cache: CacheFolder | None = None,
    table: TabularPrepare | None = None,
) -> Opened:
    """Find the base model of that name: a card's id, `timm:<name>`, `hf:<name>`, or the user's own model, whose
    bundle is `parent`.

    Without `pretrained` the weights are random, drawn from `seed`. Nothing is built if the cache knows the weights.
    `table` is how a table's rows are prepared, for networks that are made to its measure; with `parent` it must have
    been made from the parent's own. Raises `unknown_base_model`, `weights_missing`, `weights_corrupt`,
    `bundle_unreadable` or `modalities_differ`.
    """
    source = _source(
        base_model,
        weights_dir=weights_dir,
        pretrained=pretrained,
        seed=seed,
        parent=parent,
        cache=cache,
        table=table,
    )
    known = cache and _recall(cache, source)
    if known:
        return Opened(Identity(source.card, known, source.lineage), source.build, source.tokenizer)
    module = source.build()
    found = digest(module)
    if cache:
        cache.put("digests", source.memo, lambda path: _write(path, found))
    return Opened(Identity(source.card, found, source.lineage), lambda: module, source.tokenizer)


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
    table: TabularPrepare | None = None,
) -> _Source:
    if parent is not None:
        found = own.manifest(parent)
        root = _root(found, weights_dir, cache)
        lineage = [found.model_id, *found.lineage]
        if root.builder == "tabular":
            card = own.table_card(found, root, table)
            return _carried(card, found, parent, lineage, seed) if pretrained else _random(card, lineage, seed)
        card = own.card(found, root)
        tokenizer = texts.carried_tokenizer(card, parent) if card.modality == "text" else None
        if not pretrained:
            return _random(card, lineage, seed, tokenizer)
        return _Source(card, lineage, _memo(card, _stamp(parent)), partial(_from_bundle, card, parent), tokenizer)
    card = _card(base_model, weights_dir, cache)
    if card.builder == "tabular":
        return _random(_for_table(card, table), [card.id], seed)
    tokenizer = texts.tokenizer(card, weights_dir) if card.modality == "text" else None
    card = card if tokenizer is None else texts.with_tokenizer(card, tokenizer)
    if not pretrained or card.weights.source == "none":
        return _random(card, [card.id], seed, tokenizer)
    path = weights.locate(card, weights_dir)
    return _Source(card, [card.id], _memo(card, _stamp(path)), partial(_from_file, card, path), tokenizer)


def _for_table(card: BaseModelCard, table: TabularPrepare | None) -> BaseModelCard:
    from worker.engine.backbones import tabular

    if table is None:
        raise JobError(
            f"{card.id} is a base model for tables.",
            code="modalities_differ",
            param="base_model",
            hint="Choose one for the data set's modality; GET /base-models lists them.",
        )
    return tabular.completed(card, table)


def _carried(card: BaseModelCard, found: ModelManifest, parent: Path, lineage: list[str], seed: int) -> _Source:
    """A table's network with what the parent knows; what it does not know is drawn from the seed."""
    memo = _memo(card, f"{_stamp(parent)}:{seed}:{version('torch')}")
    return _Source(card, lineage, memo, partial(_from_parent, card, found.prepare, parent, seed))


def _from_parent(card: BaseModelCard, before: Prepare, parent: Path, seed: int) -> nn.Module:
    from worker.engine.backbones import tabular, tabular_transfer

    module = _from_seed(card, seed)
    if isinstance(module, tabular.Mlp):
        assert isinstance(before, TabularPrepare)
        assert isinstance(card.prepare, TabularPrepare)
        try:
            tabular_transfer.carry(module, before, card.prepare, own.tensors(parent))
        except (KeyError, RuntimeError) as error:
            raise weights.corrupt(parent, str(error).partition("\n")[2].strip()[:200]) from error
    return module


def _random(card: BaseModelCard, lineage: list[str], seed: int, tokenizer: bytes | None = None) -> _Source:
    library = "transformers" if card.builder == "transformers" else "timm"
    memo = _memo(card, f"random:{seed}:{version('torch')}:{version('torchvision')}:{version(library)}")
    return _Source(card, lineage, memo, partial(_from_seed, card, seed), tokenizer)


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
    if card.builder == "tabular":
        from worker.engine.backbones import tabular

        return tabular
    if card.builder == "transformers":
        from worker.engine.backbones import transformers_

        return transformers_
    if card.builder == "small":
        from worker.engine.backbones import small

        return small
    from worker.engine.backbones import timm_

    return timm_


def _root(found: ModelManifest, weights_dir: Path | None, cache: CacheFolder | None) -> BaseModelCard:
    """The card at the end of a model's lineage."""
    name = (found.lineage or [found.base_model])[-1]
    said = texts.carried_card(name, found, cache) if is_hf(name) else None
    return said or _card(name, weights_dir, cache)


def _card(base_model: str, weights_dir: Path | None, cache: CacheFolder | None) -> BaseModelCard:
    if is_hf(base_model):
        return texts.hub_card(base_model, weights_dir, cache)
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
    table = ""
    if isinstance(card.prepare, TabularPrepare):  # it decides the network's shape
        table = hashlib.sha256(f"{card.width}:{card.prepare.model_dump_json()}".encode()).hexdigest()
    return f"{_MEMO}:{card.builder}:{card.architecture}:{table}{shape(card)}{what}"


def _stamp(path: Path) -> str:
    """A file's identity without reading it: its path, size and time of change."""
    facts = path.stat()
    return hashlib.sha256(f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()


def _recall(cache: CacheFolder, source: _Source) -> str | None:
    kept = cache.get("digests", source.memo)
    return None if kept is None else kept.read_text(encoding="ascii")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
