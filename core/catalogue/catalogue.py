"""Reads the cards and finds one by its id."""

import re
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from core.contract.base_models import BaseModelCard
from core.contract.errors import InvalidRequestError

TIMM_PREFIX = "timm:"
HF_PREFIX = "hf:"
# No part begins with a dot: the name is a folder in GRAFT_WEIGHTS_DIR, too.
_HF_NAME = re.compile(r"hf:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95})?")


@cache
def _by_id() -> dict[str, BaseModelCard]:
    folder = files("core.catalogue") / "cards"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    read = [BaseModelCard.model_validate_json(file.read_bytes()) for file in found]
    return {card.id: card for card in sorted(read, key=lambda card: card.parameters)}


def cards() -> list[BaseModelCard]:
    """Every card of the catalogue, smallest network first."""
    return list(_by_id().values())


def is_timm(base_model: str) -> bool:
    """Whether the name asks timm for a network that has no card: `timm:<name>`."""
    return base_model.startswith(TIMM_PREFIX) and len(base_model) > len(TIMM_PREFIX)


def is_hf(base_model: str) -> bool:
    """Whether the name asks for a text encoder that has no card: `hf:<name>`, as the Hugging Face hub names it."""
    return _HF_NAME.fullmatch(base_model) is not None


def find(base_model_id: str) -> BaseModelCard:
    """The card of that id; `InvalidRequestError` with the nearest ids if there is none."""
    card = _by_id().get(base_model_id)
    if card is None:
        raise unknown(base_model_id)
    return card


def unknown(base_model_id: str) -> InvalidRequestError:
    """The error for a base model that is not in the catalogue; its hint names the nearest ones."""
    near = get_close_matches(base_model_id, _by_id(), n=3, cutoff=0.5)
    start = f"Did you mean {' or '.join(near)}? " if near else ""
    return InvalidRequestError(
        f"There is no base model {base_model_id!r}.",
        code="unknown_base_model",
        param="base_model",
        hint=f"{start}GET /base-models lists them; `timm:<name>` takes any network of timm, `hf:<name>` a text "
        "encoder of transformers.",
        details={"nearest": near},
    )
