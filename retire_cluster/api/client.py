"""Where a request comes from: the peer's address, or the one a trusted proxy saw."""

from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest

from retire_cluster import hosts


def address(request: HttpRequest) -> str:
    """The client's address; empty where the peer has none, as on a Unix socket.

    `X-Forwarded-For` counts only from RETIRE_CLUSTER_TRUSTED_PROXIES, and of it only the right-most address
    that is not one of them: what stands further left is the client's own word.
    """
    return behind(_peer(request), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def behind(peer: str, forwarded: str) -> str:
    """The same for a peer's address and its `X-Forwarded-For`."""
    hops = [peer, *reversed([hop.strip() for hop in forwarded.split(",") if hop.strip()])]
    return _first_untrusted(hops, _proxies())


def is_proxy(request: HttpRequest) -> bool:
    """Whether the request was handed on by a proxy that may say what it saw."""
    peer = hosts.address(_peer(request))
    return peer is not None and any(peer in network for network in _proxies())


def _peer(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def _proxies() -> tuple[hosts.Network, ...]:
    return hosts.networks(tuple(settings.TRUSTED_PROXIES))


def _first_untrusted(hops: Sequence[str], proxies: Sequence[hosts.Network]) -> str:
    """The first hop, seen from here, that is no trusted proxy; before a hop that is no address, the last known."""
    known = hops[0]
    for hop in hops:
        parsed = hosts.address(hop)
        if parsed is None:
            return known
        known = str(parsed)
        if not any(parsed in network for network in proxies):
            return known
    return known
