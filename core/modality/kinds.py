"""What a kind of fault is: its severity, its sentence and its remedy."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]
LEFT_OUT = "They are left out."


class Kind(NamedTuple):
    """A kind of fault."""

    severity: Severity
    message: str
    remedy: str
