"""Fetches weights from their hub where it can be reached; says no within seconds where it cannot."""

import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from core.contract.base import new_id
from core.contract.base_models import BaseModelCard

_SECONDS = 5.0
_HF_FILE = "model.safetensors"
_HF_SOURCES = {"timm", "transformers"}


def fetch(card: BaseModelCard, name: str | None = None) -> Path | None:
    """The card's weights file from the hub's local cache or the hub itself; None if neither has it.

    `name` is that of another file beside it.
    """
    if card.weights.source == "torchvision":
        return _torchvision(card)
    if card.weights.source in _HF_SOURCES:
        return _hugging_face(card, name or _HF_FILE)
    return None


def kept(card: BaseModelCard, name: str = _HF_FILE) -> Path | None:
    """The card's weights file if the hub's local cache has it; `name` is that of another file beside it."""
    if card.weights.source == "torchvision" and card.weights.file is not None:
        target = _torchvision_file(card.weights.file)
        return target if target.is_file() else None
    if card.weights.source in _HF_SOURCES and card.weights.entry is not None:
        found = _hub().try_to_load_from_cache(card.weights.entry, name)
        return Path(found) if isinstance(found, str) else None
    return None


def _torchvision_file(name: str) -> Path:
    return _torch_home() / "hub" / "checkpoints" / name


def _torchvision(card: BaseModelCard) -> Path | None:
    """Torchvision's file, kept where torch itself keeps it."""
    if card.weights.file is None:
        return None
    target = _torchvision_file(card.weights.file)
    if target.is_file():
        return target
    from torchvision.models import get_model_weights

    url = get_model_weights(card.architecture)[card.weights.entry].url
    return target if reachable(url) and _download(url, target, card.weights.sha256_prefix or "") else None


def _torch_home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{base}/torch")).expanduser()


def _hub() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub

    return huggingface_hub


def _hugging_face(card: BaseModelCard, name: str) -> Path | None:
    if card.weights.entry is None:
        return None
    hf = _hub()
    found = kept(card, name)
    if found is not None:
        return found
    # The hub's client tries for half a minute before it gives up: ask first whether there is anything to talk to.
    if hf.constants.HF_HUB_OFFLINE or not reachable(hf.hf_hub_url(card.weights.entry, name)):
        return None
    try:
        return Path(hf.hf_hub_download(card.weights.entry, name))
    except (OSError, hf.errors.HfHubHTTPError):
        return None


def reachable(url: str, seconds: float = _SECONDS) -> bool:
    """Whether the file can be had, known within `seconds` (a name look-up has no time limit of its own)."""
    answer: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https from the libraries' own tables
        try:
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
                answer.append(True)
        except (OSError, ValueError):
            answer.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer and answer[0])


def _download(url: str, target: Path, sha256_prefix: str) -> bool:
    pending = target.with_name(f".{new_id('req')}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=30) as reply, pending.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(reply, file, 1024 * 1024)
        with pending.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256_prefix)
        if whole:
            pending.replace(target)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    finally:
        pending.unlink(missing_ok=True)
    return whole
