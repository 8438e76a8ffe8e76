"""What a request says of its sender: the secret out of `Authorization`."""

import base64
import binascii
import re
from dataclasses import dataclass

from starlette.types import Scope

from core.contract.errors import UnauthenticatedError

SECRET = re.compile(r"graft_[0-9a-z]{8}_[A-Za-z0-9_-]{43}", re.ASCII)
_LONGEST = 1024


@dataclass(frozen=True)
class Credentials:
    """A secret that looks like one of ours; whether it is one is for the books to say."""

    secret: str
    basic: bool

    def __repr__(self) -> str:
        return f"Credentials(basic={self.basic})"  # the secret must not get into a log


def header(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header."""
    return [value for key, value in scope["headers"] if key.lower() == name]


def read(scope: Scope) -> Credentials | None:
    """The credentials of a request, None without any; `UnauthenticatedError` if they cannot be a key.

    Two headers are refused: a proxy might have looked at the one and we at the other.
    """
    values = header(scope, b"authorization")
    if not values:
        return None
    if len(values) > 1 or len(values[0]) > _LONGEST:
        raise invalid_key()
    scheme, _, rest = values[0].decode("latin-1").strip().partition(" ")
    basic = scheme.lower() == "basic"
    secret = _password(rest.strip()) if basic else rest.strip() if scheme.lower() == "bearer" else ""
    if not SECRET.fullmatch(secret):
        raise invalid_key()
    return Credentials(secret, basic)


def _password(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def invalid_key() -> UnauthenticatedError:
    """The error for credentials that let nobody in; what is wrong with them is not told."""
    return UnauthenticatedError(
        "The access key is not valid.",
        code="invalid_key",
        hint="It may be mistyped, revoked or expired. An admin makes a new one: POST /keys, or `graftd keys create`.",
    )


def missing_key() -> UnauthenticatedError:
    """The error for a request without credentials."""
    return UnauthenticatedError(
        "This call needs an access key.",
        code="missing_key",
        hint="Send `Authorization: Bearer <key>` (the SDK and `graft` take it from GRAFT_API_KEY). "
        "On the server, `graftd keys create --name NAME` makes one.",
    )
