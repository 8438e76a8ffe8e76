"""The base models a job may start from: one JSON card each in `cards/`. A new base model is one new card."""

from core.catalogue.catalogue import TIMM_PREFIX, cards, find, is_timm, unknown

__all__ = ["TIMM_PREFIX", "cards", "find", "is_timm", "unknown"]
