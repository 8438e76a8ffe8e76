"""Where the service may send to: public addresses, and those the operator allows (against server-side request forgery).

What is public is told here by its own list: `ipaddress.is_global` counts NAT64, 6to4 and multicast among it.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, urlsplit

from core.contract.errors import InvalidRequestError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""Host and port to all addresses of the host, as text; `OSError` if there are none."""

# https://www.iana.org/assignments/iana-ipv4-special-registry, 6to4 relays and multicast
_V4_CLOSED = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
# https://www.iana.org/assignments/iana-ipv6-special-registry: only 2000::/3 is global unicast, so that mapped, NAT64,
# local, link-local, site-local and multicast addresses lie outside; within it Teredo and its like, 6to4, documentation
_V6_OPEN = IPv6Network("2000::/3")
_V6_CLOSED = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_PORTS = {"http": 80, "https": 443}
_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._:")


class NotAllowedError(Exception):
    """The service does not send there; the text says why without naming an address of the inside."""


@dataclass(frozen=True)
class Target:
    """An address taken apart, as it is connected to."""

    scheme: str
    host: str
    port: int
    path: str


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas, e.g. `10.1.0.0/16, ::1/128`; `ValueError`."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def is_public(address: Address) -> bool:
    """Whether the address is global unicast, reached without a translator or tunnel."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _V4_CLOSED)
    return address in _V6_OPEN and not any(address in network for network in _V6_CLOSED)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether the service may send to the address: it is public, or in one of the networks."""
    return is_public(address) or any(address in network for network in allowed)


def parse(url: str) -> Target:
    """Take a URL apart; `NotAllowedError` for what is no plain http or https address."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise NotAllowedError("it is not a valid address") from error
    if parts.scheme not in _PORTS:
        raise NotAllowedError("only http and https are possible")
    if "@" in parts.netloc:
        raise NotAllowedError("it holds a user name or password")
    if not host or port == 0:
        raise NotAllowedError("it names no host" if not host else "there is no port 0")
    path = quote(parts.path or "/", safe="/%:;=@&!$'()*+,~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:;=@&!$'()*+,~?")
    return Target(parts.scheme, _plain_host(host), port or _PORTS[parts.scheme], path)


def _plain_host(host: str) -> str:
    """The host in ASCII: full-width digits and dots become the plain ones that a resolver would make of them."""
    try:
        plain = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise NotAllowedError("its host is not a valid name") from error
    plain = plain.lower().rstrip(".")
    if not plain or not _HOST_LETTERS.issuperset(plain):
        raise NotAllowedError("its host is not a valid name")
    return plain


def literal(host: str) -> Address | None:
    """The address that a host is by itself, in any spelling that a resolver takes; None for a name."""
    if host == "localhost" or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 2130706433, 0x7f.1, 0177.0.0.1
    except OSError:
        return None


def check_url(url: str, allowed: Sequence[Network], *, param: str) -> None:
    """Refuse an address that could never be sent to; names are looked up only when something is sent.

    `InvalidRequestError` names the field and the remedy.
    """
    try:
        address = literal(parse(url).host)
        if address is not None and not is_allowed(address, allowed):
            raise NotAllowedError("it is not a public address")  # noqa: TRY301 -- one place tells the remedy
    except NotAllowedError as error:
        raise InvalidRequestError(
            f"The service does not send there: {error}.",
            code="webhook_not_allowed",
            param=param,
            hint="Use a public http(s) address without user name. For one in a network of your own, the operator of "
            "the service names that network in GRAFT_WEBHOOK_ALLOW, e.g. 10.1.0.0/16.",
        ) from error


def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver; `OSError` if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def resolve(target: Target, allowed: Sequence[Network], resolver: Resolve = resolve_host) -> list[Address]:
    """Look the host up, once; every address it has must be allowed. `NotAllowedError`, `OSError`.

    Connect to what is returned and look nothing up again: the next answer may be another one.
    """
    try:
        addresses = [ip_address(text) for text in resolver(target.host, target.port)]
    except ValueError as error:
        raise NotAllowedError("its host has an address that is none") from error
    if not addresses or not all(is_allowed(address, allowed) for address in addresses):
        raise NotAllowedError("its host has no address, or one that is not public")
    return addresses
