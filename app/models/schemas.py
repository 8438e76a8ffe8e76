"""What the endpoints of models read."""

from typing import Annotated

from pydantic import Field, StringConstraints

from app.dependencies import Paging
from core.contract.base import Body


class ModelFilter(Paging):
    """Parameters of `GET /models`."""

    published: bool | None = Field(default=None, description="Only those that are published, or that are not.")


class PublishRequest(Body):
    """Body of `POST /models/{id}/publish`; it may be left out."""

    override: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)] | None = Field(
        default=None, description="Why the model is to be published although its verdict is `harmful`."
    )
