"""Bundles as the engine writes and reads them. What they are stands in `core.bundle`: the API writes some, too."""

from core.bundle import read_member, write_bundle

__all__ = ["read_member", "write_bundle"]
