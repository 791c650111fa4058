"""What crosses the relay, and what is the relay's own word."""

import pytest

from retire_cluster.relay import headers
from retire_cluster.relay.headers import Arrival, Headers, arrival, downstream, framing, upstream

CAME = Arrival("192.0.2.9", "http", b"relay.lan:8081")


def sent(*given: tuple[bytes, bytes], came: Arrival = CAME, scheme: str = "https") -> Headers:
    return upstream(list(given), came, request_id="id", scheme=scheme)


def values(found: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in found if name == wanted]


@pytest.mark.parametrize("name", sorted(headers.HOP_BY_HOP))
def test_hop_by_hop_headers_end_at_the_relay(name: bytes) -> None:
    assert values(sent((name, b"x")), name) == []
    assert values(downstream([(name, b"x")], CAME, scheme="https"), name) == []


def test_what_connection_names_ends_at_the_relay_too() -> None:
    found = sent((b"connection", b"close, X-Secret ,keep-alive"), (b"x-secret", b"1"), (b"accept", b"a/b"))
    assert values(found, b"x-secret") == []
    assert values(found, b"accept") == [b"a/b"]


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Forwarded-Proto", b"Via", b"Host", b"X-Request-ID"])
def test_connection_cannot_take_away_what_the_relay_says(name: bytes) -> None:
    found = sent((b"connection", name), (name.lower(), b"forged"))
    assert len(values(found, name.lower())) == 1
    assert values(found, name.lower()) != [b"forged"]


@pytest.mark.parametrize(
    "name",
    [
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded",
        b"x_forwarded_for",
        b"x-forwarded_for",
    ],
)
def test_nobody_forges_where_a_request_comes_from(name: bytes) -> None:
    found = sent((name, b"127.0.0.1"))
    assert b"127.0.0.1" not in [value for _, value in found]
    assert values(found, b"x-forwarded-for") == [b"192.0.2.9"]
    assert values(found, b"x-forwarded-proto") == [b"http"]
    assert values(found, b"via") == [headers.VIA]


def test_a_proxy_the_relay_trusts_is_believed_and_named() -> None:
    given = [(b"host", b"a"), (b"x-forwarded-for", b"198.51.100.4"), (b"x-forwarded-proto", b"https")]
    came = arrival(given, client="192.0.2.1", scheme="http", trusted=True)
    found = sent(*given, came=came)
    assert values(found, b"x-forwarded-for") == [b"198.51.100.4, 192.0.2.1"]
    assert values(found, b"x-forwarded-proto") == [b"https"]


def test_a_stranger_is_not_believed() -> None:
    given = [(b"host", b"a"), (b"x-forwarded-for", b"198.51.100.4"), (b"x-forwarded-proto", b"https")]
    came = arrival(given, client="192.0.2.1", scheme="http", trusted=False)
    assert came == Arrival("192.0.2.1", "http", b"a")


def test_a_trusted_proxy_s_nonsense_is_not_a_scheme() -> None:
    given = [(b"host", b"a"), (b"x-forwarded-proto", b"gopher")]
    assert arrival(given, client="192.0.2.1", scheme="http", trusted=True).scheme == "http"


def test_there_is_one_host_the_client_s() -> None:
    assert values(sent((b"host", b"relay.lan:8081"), (b"host", b"other")), b"host") == [b"relay.lan:8081"]


def test_what_is_the_client_s_own_affair_crosses_unchanged() -> None:
    own = [
        (b"x-api-key", b"k"),
        (b"authorization", b"Bearer k"),
        (b"cookie", b"a=b"),
        (b"cookie", b"c=d"),
        (b"idempotency-key", b"i"),
        (b"if-match", b'"3"'),
        (b"accept-encoding", b"gzip"),
        (b"sec-fetch-site", b"cross-site"),
    ]
    assert [pair for pair in sent(*own) if pair in own] == own


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        ([(b"content-length", b"5")], [(b"content-length", b"5")]),
        ([(b"transfer-encoding", b"chunked")], [(b"transfer-encoding", b"chunked")]),
        (
            [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
            [(b"transfer-encoding", b"chunked")],
        ),
        ([(b"connection", b"content-length"), (b"content-length", b"5")], [(b"content-length", b"5")]),
    ],
)
def test_a_body_has_one_way_of_ending(given: Headers, wanted: Headers) -> None:
    assert framing(given) == wanted
    assert [pair for pair in sent(*given) if pair[0] in (b"content-length", b"transfer-encoding")] == []


@pytest.mark.parametrize(
    ("origin", "seen"),
    [
        (b"http://relay.lan:8081", b"https://relay.lan:8081"),  # the page's own site, as the gateway sees it
        (b"HTTP://RELAY.LAN:8081", b"https://relay.lan:8081"),
        (b"https://relay.lan:8081", b"null"),  # another site, which must not look like the gateway's
        (b"http://relay.lan:80811", b"http://relay.lan:80811"),
        (b"http://relay.lan:8081.evil.example", b"http://relay.lan:8081.evil.example"),
        (b"http://relay.lan:8081@evil.example", b"http://relay.lan:8081@evil.example"),
        (b"https://evil.example", b"https://evil.example"),
        (b"null", b"null"),
    ],
)
def test_an_origin_means_the_same_to_the_gateway_as_to_the_browser(origin: bytes, seen: bytes) -> None:
    assert values(sent((b"origin", origin)), b"origin") == [seen]


def test_where_both_sides_speak_alike_no_origin_is_touched() -> None:
    for origin in (b"http://relay.lan:8081", b"https://relay.lan:8081", b"https://evil.example"):
        assert values(sent((b"origin", origin), scheme="http"), b"origin") == [origin]


def test_referers_follow_the_same_rule() -> None:
    assert values(sent((b"referer", b"http://relay.lan:8081/admin/?a=b")), b"referer") == [
        b"https://relay.lan:8081/admin/?a=b"
    ]
    assert values(sent((b"referer", b"https://evil.example/x")), b"referer") == [b"https://evil.example/x"]


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        (b"https://relay.lan:8081/x", b"http://relay.lan:8081/x"),
        (b"/admin/login/?next=/", b"/admin/login/?next=/"),
        (b"https://elsewhere.example/x", b"https://elsewhere.example/x"),
    ],
)
def test_a_redirect_leads_where_the_client_can_go(location: bytes, seen: bytes) -> None:
    assert values(downstream([(b"Location", location)], CAME, scheme="https"), b"location") == [seen]


def test_an_answer_keeps_its_cookies_and_limits_and_loses_what_the_server_says_anew() -> None:
    given = [
        (b"Set-Cookie", b"a=b"),
        (b"Set-Cookie", b"c=d"),
        (b"X-RateLimit-Remaining", b"3"),
        (b"Date", b"yesterday"),
        (b"Server", b"x"),
        (b"Connection", b"X-Hop"),
        (b"X-Hop", b"1"),
        (b"Content-Encoding", b"gzip"),
    ]
    assert downstream(given, CAME, scheme="https") == [
        (b"set-cookie", b"a=b"),
        (b"set-cookie", b"c=d"),
        (b"x-ratelimit-remaining", b"3"),
        (b"content-encoding", b"gzip"),
    ]
