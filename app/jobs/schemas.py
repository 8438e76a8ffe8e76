"""Parameters of the lists under `/jobs`."""

from pydantic import Field

from app.dependencies import Paging
from core.contract.base import DatasetId, Request
from core.contract.jobs import JobState

LAST_SEQ = 2**31 - 1


class JobFilter(Paging):
    """Parameters of `GET /jobs`."""

    state: JobState | None = Field(default=None, description="Only jobs in this state.")
    method: str | None = Field(
        default=None, pattern=r"^[a-z0-9_]{1,64}$", description="Only jobs of this method; see `GET /methods`."
    )
    source: DatasetId | None = Field(default=None, description="Only jobs that learn from this data set.")
    target: DatasetId | None = Field(default=None, description="Only jobs that adapt to this data set.")


class EventFilter(Request):
    """Parameters of `GET /jobs/{id}/events`."""

    after: int = Field(default=0, ge=0, le=LAST_SEQ, description="Only events with a larger number.")
    cursor: int | None = Field(default=None, ge=0, le=LAST_SEQ, description="`next_cursor` of the page before.")
    limit: int = Field(default=100, ge=1, le=500, description="Most events in one page.")

    @property
    def seq(self) -> int:
        """The number to go on after."""
        return self.after if self.cursor is None else self.cursor
