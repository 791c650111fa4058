"""Names and addresses: which `Host` is ours, which peer is this machine."""

import ipaddress
import socket
from collections.abc import Sequence
from functools import cache, lru_cache

from django.http.request import split_domain_port, validate_host

RELAY = "retire-cluster-relay"  # what a relay calls itself in Via
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


@lru_cache(maxsize=8)
def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and networks such as 10.0.0.0/8. Raises ValueError naming the one that is neither."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as headers carry it: also with a port, in brackets, with a zone, or IPv4 inside IPv6."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    found = _address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


@lru_cache(maxsize=1024)  # a request has three, mostly those of the one before
def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
