"""What a text encoder needs besides its weights: the figures it is built from, and its tokenizer."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.bundle import read_member
from core.catalogue import HF_PREFIX
from core.contract.base_models import BaseModelCard, Weights
from core.contract.errors import JobError
from core.contract.models import ModelManifest
from core.contract.prepare import TextPrepare
from worker.engine.backbones import hub, weights
from worker.engine.cache import CacheFolder

TOKENIZER = "tokenizer.json"
_CONFIG, _POOLING = "config.json", "1_Pooling/config.json"
_LARGEST = 64 * 2**20  # bytes of a tokenizer or a config; those of a quarter of a million words have 17 MB


def hub_card(base_model: str, weights_dir: Path | None, cache: CacheFolder | None) -> BaseModelCard:
    """A card for `hf:<name>` from its files in GRAFT_WEIGHTS_DIR or at the hub.

    Raises `JobError` `weights_missing`, `weights_corrupt` or `base_model_unsuitable`.
    """
    wanted = _wanted(base_model)
    config = weights.locate(wanted, weights_dir, _CONFIG)
    pooling: Path | None = config.parent / _POOLING
    if not (config.parent / _POOLING).is_file():
        own = weights_dir is not None and config.is_relative_to(weights_dir)
        pooling = None if own else hub.fetch(wanted, _POOLING)
    return _card(base_model, _json(config) | {"pooling": "mean" if pooling is None else _pooling(pooling)}, cache)


def carried_card(base_model: str, manifest: ModelManifest, cache: CacheFolder | None) -> BaseModelCard | None:
    """A card for `hf:<name>` from what a bundle says of it; None where it says nothing."""
    figures = manifest.architecture.get("config")
    return _card(base_model, figures, cache) if isinstance(figures, dict) else None


def _wanted(base_model: str) -> BaseModelCard:
    """A card that is enough to find the files."""
    entry = base_model.removeprefix(HF_PREFIX)
    return BaseModelCard(
        id=base_model,
        title=entry,
        modality="text",
        builder="transformers",
        architecture=entry,
        width=0,
        parameters=0,
        stages=[],
        prepare=TextPrepare(),
        weights=Weights(source="transformers", file="model.safetensors", entry=entry),
        licence="",
        pretrained_on="",
        paper="",
    )


def _card(base_model: str, figures: dict[str, Any], cache: CacheFolder | None) -> BaseModelCard:
    text = json.dumps(figures, sort_keys=True)
    key = f"1:{version('transformers')}:{base_model}:{hashlib.sha256(text.encode()).hexdigest()}"
    kept = cache and cache.get("cards", key)
    if kept:
        return BaseModelCard.model_validate_json(kept.read_bytes())
    from worker.engine.backbones import transformers_

    found = transformers_.card(base_model, figures)
    if cache:
        cache.put("cards", key, lambda path: _write(path, found.model_dump_json()))
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(path))
    except ValueError as error:
        raise weights.corrupt(path, "it is not JSON") from error
    if not isinstance(found, dict):
        raise weights.corrupt(path, "it is not a JSON object")
    return found


def _pooling(path: Path) -> str:
    """How a network of sentence-transformers makes one embedding of its tokens'."""
    said = _json(path)
    for how in ("mean", "cls"):
        if said.get(f"pooling_mode_{how}_token{'s' * (how == 'mean')}") or said.get("pooling_mode") == how:
            return how
    raise JobError(
        "The network pools its tokens in a way that is not known here.",
        code="base_model_unsuitable",
        param="base_model",
        hint="Choose one that takes the mean of its tokens or the first of them.",
    )


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise weights.corrupt(path, "it is larger than such a file is")
    return path.read_bytes()


def tokenizer(card: BaseModelCard, weights_dir: Path | None) -> bytes:
    """The bytes of the card's `tokenizer.json`; `JobError` `weights_missing`, or `weights_corrupt`."""
    path = weights.locate(card, weights_dir, TOKENIZER)
    return _checked(card, path, _bytes(path))


def carried_tokenizer(card: BaseModelCard, bundle: Path) -> bytes:
    """That of a bundle; `JobError` `bundle_unreadable`, or `weights_corrupt`."""
    return _checked(card, Path(TOKENIZER), read_member(bundle, TOKENIZER))


def _checked(card: BaseModelCard, path: Path, data: bytes) -> bytes:
    from tokenizers import Tokenizer

    assert isinstance(card.prepare, TextPrepare)
    expected = card.prepare.tokenizer_sha256
    if expected not in (None, hashlib.sha256(data).hexdigest()):
        raise weights.corrupt(path, f"its SHA-256 does not begin with {str(expected)[:16]}")
    try:
        Tokenizer.from_str(data.decode())
    except Exception as error:  # tokenizers raises plain Exceptions
        raise weights.corrupt(path, "it cannot be read") from error
    return data


def with_tokenizer(card: BaseModelCard, data: bytes) -> BaseModelCard:
    """The card with the checksum of the tokenizer that is used: other tokens are another preparation."""
    prepare = card.prepare.model_copy(update={"tokenizer_sha256": hashlib.sha256(data).hexdigest()})
    return card.model_copy(update={"prepare": prepare})
