"""What every type has in common, and the envelope of lists."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Resource(BaseModel):
    """A value from the service. Unknown fields are kept, so that a newer server does not break an older client."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Page(Resource, Generic[T]):
    """One page of a list; `next_cursor` asks for the next."""

    data: list[T]
    has_more: bool = False
    next_cursor: str | None = None


class Health(Resource):
    """Whether the service lives (`/healthz`) and can do work (`/readyz`)."""

    live: bool
    ready: bool
    details: dict[str, Any] = {}
