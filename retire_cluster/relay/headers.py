"""Which headers cross the relay, and what becomes of them. Pure.

Hop-by-hop headers end here; what says where a request comes from is the relay's own word. `Host` stays, so that the
gateway compares it with `Origin` as it always does; where the two sides differ in TLS, the scheme is translated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retire_cluster.hosts import RELAY

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Said anew by the relay, or answered by it.
OWN = frozenset({b"content-length", b"expect", b"host", b"origin", b"referer", b"via", b"x-request-id"})
PROVENANCE = (b"forwarded", b"x-forwarded", b"x-real-ip")  # and all that begin so
VIA = f"1.1 {RELAY}".encode()


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request reached the relay."""

    client: str  # the peer's address
    scheme: str  # what the browser's address bar says: http or https
    host: bytes
    forwarded_for: bytes = b""  # what a trusted proxy in front of the relay says of those before it


def arrival(scope_headers: Headers, *, client: str, scheme: str, trusted: bool) -> Arrival:
    """Read it off a request; `trusted`: the peer is a proxy whose X-Forwarded-* headers are believed."""
    host = _first(scope_headers, b"host")
    if not trusted:
        return Arrival(client, scheme, host)
    proto = _first(scope_headers, b"x-forwarded-proto").lower()
    said = b", ".join(value for name, value in scope_headers if name == b"x-forwarded-for")
    return Arrival(client, proto.decode() if proto in (b"http", b"https") else scheme, host, said)


def upstream(headers: Headers, came: Arrival, *, request_id: str, scheme: str) -> Headers:
    """The headers of the request to the gateway, which is spoken to by `scheme`; without the body's framing."""
    kept = _end_to_end(headers)
    return [
        (b"host", came.host),
        *((name, value) for name, value in kept if name not in OWN and not _tells_provenance(name)),
        *_same_site(kept, came, scheme),
        (b"x-request-id", request_id.encode()),
        (b"x-forwarded-for", b", ".join(filter(None, (came.forwarded_for, came.client.encode())))),
        (b"x-forwarded-proto", came.scheme.encode()),
        (b"via", VIA),
    ]


def framing(headers: Headers) -> Headers:
    """How the body's end is told: chunked wins over a length, which such a request must not have anyway."""
    if any(name == b"transfer-encoding" for name, _ in headers):
        return [(b"transfer-encoding", b"chunked")]
    length = _first(headers, b"content-length")
    return [(b"content-length", length)] if length else []


def downstream(headers: Iterable[tuple[bytes, bytes]], came: Arrival, *, scheme: str) -> Headers:
    """The headers of the answer; the server in front adds its own Date."""
    lowered = [(name.lower(), value) for name, value in headers]
    return [
        (name, _located(value, came, scheme) if name == b"location" else value)
        for name, value in _end_to_end(lowered)
        if name not in (b"date", b"server")
    ]


def _end_to_end(headers: Headers) -> Headers:
    """Without those of this hop, those `Connection` names, and names with `_`: to WSGI it is the same as `-`."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    return [
        (name, value)
        for name, value in headers
        if name not in HOP_BY_HOP and name not in named and b"_" not in name
    ]


def _tells_provenance(name: bytes) -> bool:
    return name.startswith(PROVENANCE)


def _same_site(headers: Headers, came: Arrival, scheme: str) -> Headers:
    """Origin and Referer; those of the page's own site get the scheme by which the gateway sees that site."""
    return [
        (name, _translated(value, came, scheme)) for name, value in headers if name in (b"origin", b"referer")
    ]


def _translated(value: bytes, came: Arrival, scheme: str) -> bytes:
    if scheme == came.scheme:
        return value
    own, theirs = _site(came.scheme, came.host), _site(scheme, came.host)
    if _is_at(value, own):
        return theirs + value[len(own) :]
    # The same name without TLS (or with) is another site; to the gateway it would look like its own.
    return b"null" if _is_at(value, theirs) else value


def _located(value: bytes, came: Arrival, scheme: str) -> bytes:
    theirs = _site(scheme, came.host)
    return _site(came.scheme, came.host) + value[len(theirs) :] if _is_at(value, theirs) else value


def _site(scheme: str, host: bytes) -> bytes:
    return scheme.encode() + b"://" + host


def _is_at(url: bytes, site: bytes) -> bool:
    """Whether a URL is one of the site, and not of one whose name only begins like it."""
    return url.lower().startswith(site.lower()) and url[len(site) : len(site) + 1] in (b"", b"/", b"?", b"#")


def _first(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b"")
