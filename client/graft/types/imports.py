"""Models on their way in."""

from datetime import datetime

from graft.types.base import Resource
from graft.types.errors import ErrorBody


class Import(Resource):
    """Uploaded weights; `state` is `validating`, `ready` (then `model_id` is set) or `rejected` (then `error` is)."""

    id: str
    object: str = "import"
    state: str
    name: str
    base_model: str | None = None
    classes: list[str] | None = None
    bytes: int
    model_id: str | None = None
    error: ErrorBody | None = None
    metadata: dict[str, str] = {}
    created_at: datetime
    finished_at: datetime | None = None
