"""Which addresses http_request may ask: the checks alone, with a resolver and a dialer of the test."""

import ipaddress
import socket
from typing import Any

import pytest

from retire_cluster.agent.execution.children import fetch
from retire_cluster.agent.execution.children.fetch import Fetcher, Refused

PUBLIC = "93.184.216.34"
OTHER = "93.184.216.35"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:192.168.1.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "2001:0:7f00:1::",
        "fe80::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_the_devices_surroundings_are_private(address: str) -> None:
    assert fetch.private_reason(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "::ffff:1.1.1.1", "2606:4700:4700::1111"])
def test_the_open_internet_is_not(address: str) -> None:
    assert fetch.private_reason(ipaddress.ip_address(address)) is None


def test_neighbours_with_global_addresses_are_private(monkeypatch: pytest.MonkeyPatch) -> None:
    home = ipaddress.IPv6Network("2606:4700:4700:1::/64")
    monkeypatch.setattr(fetch, "own_networks", lambda: [home])
    assert fetch.private_reason(home[0x1234]) == "in a network of this device"


def test_the_devices_own_public_address_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_is_own", lambda address: str(address) == PUBLIC)
    assert fetch.private_reason(ipaddress.ip_address(PUBLIC)) == "this device's own"


def entry(address: str, port: int = 80) -> Any:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


class Net:
    """A name server that answers by a script, and servers that answer with raw bytes, by address."""

    def __init__(self, names: dict[str, list[list[str]]], servers: dict[str, list[bytes]]) -> None:
        self.names = {name: iter(answers) for name, answers in names.items()}
        self.servers = {address: iter(answers) for address, answers in servers.items()}
        self.dialled: list[str] = []
        self.heard: list[bytes] = []
        self._open: list[socket.socket] = []

    def resolve(self, host: str, port: int) -> list[Any]:
        if host not in self.names:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [entry(address, port) for address in next(self.names[host])]

    def dial(self, found: Any) -> socket.socket:
        address = found[4][0]
        self.dialled.append(address)
        ours, theirs = socket.socketpair()
        theirs.sendall(next(self.servers[address]))
        theirs.shutdown(socket.SHUT_WR)
        self._open.append(theirs)
        return ours

    def close(self) -> None:
        for theirs in self._open:
            theirs.setblocking(False)
            self.heard.append(theirs.recv(65_536))
            theirs.close()

    def fetch(self, url: str, **changes: Any) -> Any:
        request: dict[str, Any] = {"url": url, "method": "GET", "headers": {}, "body": None}
        request |= {"allow_private": False, "consent": False, **changes}
        try:
            return Fetcher(request, self.resolve, self.dial).fetch()
        finally:
            self.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture(autouse=True)
def _nothing_is_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_is_own", lambda address: False)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25lo]",
        "3232235777",
        "0xa9fea9fe",
    ],
)
def test_every_spelling_of_a_private_address_is_refused(host: str) -> None:
    net = Net({}, {})
    with pytest.raises(Refused):
        net.fetch(f"http://{host}/")
    assert net.dialled == []


def test_a_name_that_leads_home_is_refused() -> None:
    net = Net({"evil.test": [["192.168.1.1", "127.0.0.1"]]}, {})
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is loopback"):
        net.fetch("http://evil.test/")
    assert net.dialled == []


def test_only_the_public_address_of_a_name_is_asked() -> None:
    net = Net({"mixed.test": [["127.0.0.1", PUBLIC]]}, {PUBLIC: [OK]})
    assert net.fetch("http://mixed.test/")["content"] == "ok"
    assert net.dialled == [PUBLIC]


def test_a_name_server_that_changes_its_mind_changes_nothing() -> None:
    net = Net({"rebind.test": [[PUBLIC], ["127.0.0.1"]]}, {PUBLIC: [OK]})
    assert net.fetch("http://rebind.test/")["status_code"] == 200
    assert net.dialled == [PUBLIC]


def test_a_redirect_is_checked_again() -> None:
    net = Net({"a.test": [[PUBLIC], ["127.0.0.1"]]}, {PUBLIC: [moved("/next")]})
    with pytest.raises(Refused, match=r"127\.0\.0\.1"):
        net.fetch("http://a.test/")
    assert net.dialled == [PUBLIC]


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1/",
        "//169.254.169.254/latest",
        "http://0x7f.1/",
        "http://[::1]/",
        "file:///etc/passwd",
        "gopher://a.test/",
        "http://u:p@a.test/",
        "http://a.test:0/",
        "http://[",
    ],
)
def test_a_redirect_to_what_is_not_for_the_task_is_refused(target: str) -> None:
    net = Net({"a.test": [[PUBLIC]]}, {PUBLIC: [moved(target)]})
    with pytest.raises(Refused):
        net.fetch("http://a.test/")
    assert net.dialled == [PUBLIC]


def test_redirects_end_somewhere() -> None:
    net = Net({"a.test": [[PUBLIC]] * 9}, {PUBLIC: [moved("/again")] * 9})
    with pytest.raises(Refused, match="more than 5 redirects"):
        net.fetch("http://a.test/")
    assert len(net.dialled) == 6


def test_credentials_stay_with_their_host() -> None:
    names = {"a.test": [[PUBLIC], [PUBLIC]], "b.test": [[OTHER]]}
    net = Net(names, {PUBLIC: [moved("/two"), moved("http://b.test/")], OTHER: [OK]})
    headers = {"Authorization": "Bearer s3cret", "Cookie": "s3cret", "X-Own": "1"}
    assert net.fetch("http://a.test/one", headers=headers)["url"] == "http://b.test/"
    first, second, third = net.heard
    assert b"s3cret" in first
    assert b"s3cret" in second
    assert b"s3cret" not in third
    assert b"X-Own: 1" in third


def test_a_post_becomes_a_get_where_browsers_do_so() -> None:
    net = Net({"a.test": [[PUBLIC]] * 3}, {PUBLIC: [moved("/b", 307), moved("/c", 303), OK]})
    net.fetch("http://a.test/a", method="POST", body="x=1", headers={"Content-Type": "text/plain"})
    first, second, third = net.heard
    assert first.startswith(b"POST /a ")
    assert second.startswith(b"POST /b ")
    assert second.endswith(b"\r\n\r\nx=1")
    assert third.startswith(b"GET /c ")
    assert b"Content-Type" not in third


def test_a_private_address_needs_the_task_and_the_device() -> None:
    with pytest.raises(Refused, match="only a request with allow_private"):
        Net({}, {}).fetch("http://10.0.0.1/", consent=True)
    with pytest.raises(Refused, match="--allow-private-http"):
        Net({}, {}).fetch("http://10.0.0.1/", allow_private=True)
    with pytest.raises(Refused, match="never asked"):
        Net({}, {}).fetch("http://224.0.0.1/", allow_private=True, consent=True)
    net = Net({}, {"10.0.0.1": [OK]})
    assert net.fetch("http://10.0.0.1/", allow_private=True, consent=True)["status_code"] == 200


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_no_usable_answer_is_told_in_words(answer: bytes) -> None:
    net = Net({"a.test": [[PUBLIC]]}, {PUBLIC: [answer]})
    with pytest.raises(Refused, match="answer"):
        net.fetch("http://a.test/")


def test_much_content_is_cut_and_repeated_headers_are_joined() -> None:
    answer = b"HTTP/1.1 404 No\r\nX-A: 1\r\nX-A: 2\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n"
    net = Net({"a.test": [[PUBLIC]]}, {PUBLIC: [answer + b"x" * 100_000]})
    result = net.fetch("http://a.test/")
    assert (result["status_code"], result["headers"]["X-A"], result["truncated"]) == (404, "1, 2", False)
    assert len(result["content"]) == 100_000
