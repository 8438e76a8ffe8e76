"""Finds a method or a base model by name, or says which one may have been meant."""

from app.nearest import hint_nearest
from core.catalogue import cards
from core.contract.base_models import BaseModelCard
from core.contract.errors import NotFoundError
from core.contract.methods import MethodCard, method_cards


def method(name: str) -> MethodCard:
    """The method of that name; `NotFoundError` with the nearest name."""
    known = {card.name: card for card in method_cards()}
    if name not in known:
        raise NotFoundError(
            f"There is no method {name[:100]}.",
            code="method_not_found",
            param="name",
            hint=hint_nearest(name, list(known), say="GET /methods lists them."),
        )
    return known[name]


def base_model(card_id: str) -> BaseModelCard:
    """The card of that id; `NotFoundError` with the nearest id."""
    known = {card.id: card for card in cards()}
    if card_id not in known:
        raise NotFoundError(
            f"There is no base model {card_id[:100]} in the catalogue.",
            code="base_model_not_found",
            param="id",
            hint=hint_nearest(card_id, list(known), say="GET /base-models lists them."),
        )
    return known[card_id]
