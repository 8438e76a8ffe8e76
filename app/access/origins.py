"""Where a request comes from: this machine, another one, or another site's page in a browser on this machine."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import Scope

from app.access.credentials import header
from core.contract.errors import ForbiddenError
from core.loopback import is_loopback
from core.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORWARDED = (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")


def address(scope: Scope) -> str | None:
    """The client's address; None where there is none, as behind a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else None


def sender(scope: Scope) -> str:
    """Whose failures count together: an IPv4 address, or a network of IPv6 as one customer gets it (/64)."""
    text = (address(scope) or "").partition("%")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text[:64]
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def is_local(scope: Scope) -> bool:
    """Whether the sender is on this machine. What a proxy passed on is not, nor is what has no address."""
    found = address(scope)
    return found is not None and is_loopback(found) and not any(header(scope, name) for name in _FORWARDED)


def refuse_foreign_host(scope: Scope, settings: Settings) -> None:
    """Against DNS rebinding: a page whose own host name was made to point here sends that name as `Host`."""
    values = header(scope, b"host")
    name = _name(values[0].decode("latin-1")) if len(values) == 1 else ""
    if name and (is_loopback(name) or name in _allowed(settings)):
        return
    raise ForbiddenError(
        f"A service without access keys does not answer to the host name `{name[:100] or 'none'}`.",
        code="host_not_allowed",
        param="Host",
        hint="Use 127.0.0.1 or localhost, name the host in GRAFT_ALLOWED_HOSTS, or make an access key: "
        "graftd keys create --name admin --scope admin",
    )


def refuse_cross_site(scope: Scope) -> None:
    """A browser sends what it knows of the user along with requests of any page: no change is taken from those."""
    if scope["method"] in SAFE_METHODS or not _is_cross_site(scope):
        return
    raise ForbiddenError(
        "A page of another site cannot change anything here.",
        code="cross_site",
        param="Origin",
        hint="Send the request from a page of this service, from a program, or with `Authorization: Bearer <key>`.",
    )


def _is_cross_site(scope: Scope) -> bool:
    if any(value.lower() == b"cross-site" for value in header(scope, b"sec-fetch-site")):
        return True
    hosts = [_netloc(value.decode("latin-1")) for value in header(scope, b"host")]
    return any([_origin(value.decode("latin-1"))] != hosts for value in header(scope, b"origin"))


def _origin(text: str) -> str:
    try:
        return _netloc(urlsplit(text).netloc)
    except ValueError:
        return ""  # equals no host


def _netloc(text: str) -> str:
    return text.strip().lower().removesuffix(":80").removesuffix(":443")


def _name(host: str) -> str:
    """A `Host` header without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


def _allowed(settings: Settings) -> set[str]:
    named = {name.strip().lower() for name in settings.allowed_hosts.split(",")}
    return (named | {settings.host.lower()}) - {""}
