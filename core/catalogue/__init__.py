"""The base models a job may start from: one JSON card each in `cards/`. A new base model is one new card."""

from core.catalogue.catalogue import HF_PREFIX, TIMM_PREFIX, cards, find, is_hf, is_timm, unknown

__all__ = ["HF_PREFIX", "TIMM_PREFIX", "cards", "find", "is_hf", "is_timm", "unknown"]
