"""Names and addresses: which `Host` is ours, which peer is this machine."""

import ipaddress
import socket
from collections.abc import Sequence
from functools import cache

from django.http.request import split_domain_port, validate_host


def host_name(host_header: str) -> str:
    """The name or address in a Host header, lower case, without port, brackets or final dot; "" if malformed."""
    name, _ = split_domain_port(host_header)
    return name.strip("[]").removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a host name or an address means this machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address is not None and address.is_loopback


def is_allowed(host_header: str, extra: Sequence[str]) -> bool:
    """Whether to serve a request for this host.

    A name that somebody else controls must be refused: it could be pointed here to make a visitor's browser treat
    our pages as that somebody's own (DNS rebinding). An IP literal cannot be pointed anywhere.
    """
    name = host_name(host_header)
    if not name:
        return False
    return (
        is_loopback(name)
        or _address(name) is not None
        or name in own_names()
        or validate_host(name, [pattern.lower() for pattern in extra])
    )


@cache
def own_names() -> frozenset[str]:
    """What this machine calls itself, also as mDNS announces it. Read once: no name service is asked."""
    full = socket.gethostname().lower()
    short = full.split(".")[0]
    return frozenset({full, short, f"{short}.local"})


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
