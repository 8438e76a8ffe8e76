"""Ids and names in URLs."""

from urllib.parse import quote

from graft.types import Dataset, Delivery, Job, Key, Model


def id_of(thing: str | Dataset | Delivery | Job | Key | Model) -> str:
    """The id of a thing, or the id itself."""
    return thing if isinstance(thing, str) else thing.id


def segment(thing: str | Dataset | Delivery | Job | Key | Model) -> str:
    """An id as one segment of a URL; ValueError for what cannot be one."""
    value = id_of(thing)
    if not value.strip("."):
        raise ValueError(f"{value!r} is not an id.")
    return quote(value, safe="")
