"""What every noun has in common: base classes, identifiers, time."""

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

IdPrefix = Literal["ds", "job", "mdl", "evt", "req", "key", "aud", "upl", "whd", "imp", "mea"]
DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9a-z]{26}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-z]{26}$")]
ModelId = Annotated[str, StringConstraints(pattern=r"^mdl_[0-9a-z]{26}$")]
KeyId = Annotated[str, StringConstraints(pattern=r"^key_[0-9a-z]{26}$")]
UploadId = Annotated[str, StringConstraints(pattern=r"^upl_[0-9a-z]{26}$")]
DeliveryId = Annotated[str, StringConstraints(pattern=r"^whd_[0-9a-z]{26}$")]
ImportId = Annotated[str, StringConstraints(pattern=r"^imp_[0-9a-z]{26}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_TEXT = r"^[^\x00]*$"  # PostgreSQL keeps no NUL in texts
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_TEXT)],
        Annotated[str, StringConstraints(max_length=512, pattern=_TEXT)],
    ],
    Field(max_length=64),
]

# Crockford's alphabet in lower case: no i, l, o, u, so an id survives being read aloud.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_lock = threading.Lock()
_last = 0


class Record(BaseModel):
    """A frozen value that Graft made itself; unknown fields are a bug."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(BaseModel):
    """Something a client sends; an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class Body(Request):
    """A request's JSON body: JSON has types of its own, so `"5"`, `5.0` and `true` are no whole number."""

    model_config = ConfigDict(strict=True)


def new_id(prefix: IdPrefix) -> str:
    """Return a new identifier `<prefix>_<26 characters>`: 48 bits of milliseconds, then 80 random bits.

    Identifiers sort by time; those of one process sort in the order they were made, also within a millisecond.
    """
    global _last  # noqa: PLW0603 -- guarded by the lock
    with _lock:
        _last = value = max((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80), _last + 1)
    return f"{prefix}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -5, -5))


def now() -> datetime:
    """The current time, in UTC and aware."""
    return datetime.now(UTC)
