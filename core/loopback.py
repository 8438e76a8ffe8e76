"""Which addresses are this machine alone."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine, without asking any resolver.

    That is `localhost`, names below it (RFC 6761), 127.0.0.0/8 and ::1, also in brackets or mapped into IPv6.
    """
    name = host.strip().lower().removesuffix(".").removeprefix("[").removesuffix("]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def listens_on_loopback(host: str) -> bool:
    """Whether a server told to listen on `host` can be reached from this machine alone: other names are resolved.

    A name that cannot be resolved is not believed to be loopback.
    """
    if is_loopback(host):
        return True
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or None, None, flags=socket.AI_PASSIVE)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(is_loopback(address.partition("%")[0]) for address in found)
