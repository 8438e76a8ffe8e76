"""Fetches weights from their hub where it can be reached; says no within seconds where it cannot."""

import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

from core.contract.base import new_id
from core.contract.base_models import BaseModelCard

_SECONDS = 5.0


def fetch(card: BaseModelCard) -> Path | None:
    """The card's weights file from the hub's local cache or the hub itself; None if neither has it."""
    if card.weights.source == "torchvision":
        return _torchvision(card)
    if card.weights.source == "timm":
        return _hugging_face(card)
    return None


def _torchvision(card: BaseModelCard) -> Path | None:
    """Torchvision's file, kept where torch itself keeps it."""
    if card.weights.file is None:
        return None
    target = _torch_home() / "hub" / "checkpoints" / card.weights.file
    if target.is_file():
        return target
    from torchvision.models import get_model_weights

    url = get_model_weights(card.architecture)[card.weights.entry].url
    return target if reachable(url) and _download(url, target, card.weights.sha256_prefix or "") else None


def _torch_home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{base}/torch")).expanduser()


def _hugging_face(card: BaseModelCard) -> Path | None:
    if card.weights.entry is None:
        return None
    import huggingface_hub as hf

    name = "model.safetensors"
    kept = hf.try_to_load_from_cache(card.weights.entry, name)
    if isinstance(kept, str):
        return Path(kept)
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
