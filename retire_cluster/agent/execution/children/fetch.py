"""Makes one HTTP request, in a process of its own, and checks every address before it connects to it.

A name is resolved once for each hop, and the connection goes to the very address that was checked: a name server
that answers differently the next time is never asked again. Redirects are followed here, each as a new hop.

Reads the request from standard input, writes the answer, or {"error"}, to descriptor 3.
"""

import contextlib
import http.client
import ipaddress
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_CONTENT = 1024 * 1024
MAX_REDIRECTS = 5
CONNECT_S = 10.0  # for each address of a name
_REDIRECTS = (301, 302, 303, 307, 308)
_CREDENTIALS = ("authorization", "proxy-authorization", "cookie")
_ABOUT_CONTENT = ("content-type", "content-encoding", "content-language")
_PORTS = {"http": 80, "https": 443}
# Not private by their number, but they lead to whatever IPv4 address they carry.
_WRAPPERS = tuple(
    ipaddress.ip_network(net)
    for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10")
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[Any]]
Dial = Callable[[Any], socket.socket]


class Refused(Exception):
    """The request cannot be made, or got no answer; says why."""


def private_reason(address: Address) -> str | None:
    """What makes the address one of the device's own surroundings; None for the open internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return private_reason(address.ipv4_mapped)
        if any(address in net for net in _WRAPPERS):
            return "an address that stands for another"
        if any(address in net for net in own_networks()):
            return "in a network of this device"
    for name in ("is_unspecified", "is_loopback", "is_link_local", "is_multicast"):
        if getattr(address, name):
            return name.removeprefix("is_").replace("_", "-")
    if not address.is_global:
        return "private or reserved"
    return "this device's own" if _is_own(address) else None


def own_networks() -> list[ipaddress.IPv6Network]:
    """The /64s this device is in: neighbours in a home network have global addresses with IPv6."""
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as stream:
            numbers = [line.split()[0] for line in stream]
    except OSError:
        return []
    return [ipaddress.IPv6Network((int(number, 16), 64), strict=False) for number in numbers]


def _is_own(address: Address) -> bool:
    """Whether packets to it would come from it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # sends nothing
        return ipaddress.ip_address(probe.getsockname()[0]) == address
    return False


def resolve(host: str, port: int) -> list[Any]:
    """Where the host may be reached, as socket.getaddrinfo has it."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def dial(found: Any) -> socket.socket:
    """A connection to exactly this address."""
    family, kind, protocol, _, where = found
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(CONNECT_S)
        connection.connect(where)
        connection.settimeout(None)  # from here the agent's clock counts
    except BaseException:
        connection.close()
        raise
    return connection


class Fetcher:
    """One request with its redirects."""

    def __init__(self, request: Mapping[str, Any], resolve: Resolve = resolve, dial: Dial = dial) -> None:
        self._request = request
        self._resolve = resolve
        self._dial = dial

    def fetch(self) -> dict[str, Any]:
        """The final answer. Raises Refused."""
        url, method = self._request["url"], self._request["method"]
        headers: dict[str, str] = dict(self._request["headers"])
        body = None if self._request["body"] is None else self._request["body"].encode()
        for _ in range(MAX_REDIRECTS + 1):
            parts = _checked(url)
            answer, connection = self._ask(parts, method, headers, body)
            with contextlib.closing(connection):
                target = answer.getheader("Location") if answer.status in _REDIRECTS else None
                if target is None:
                    return _told(answer, url)
            url = _joined(url, target)
            if _origin(_checked(url)) != _origin(parts):
                headers = _without(headers, _CREDENTIALS)
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = ("HEAD" if method == "HEAD" else "GET"), None
                headers = _without(headers, _ABOUT_CONTENT)
        raise Refused(f"more than {MAX_REDIRECTS} redirects, the last to {url[:200]}")

    def _ask(
        self, parts: SplitResult, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        host, port = _origin(parts)[1:]
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = _PORTS[parts.scheme]
        connection.sock = self._connected(host, port, parts.scheme)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, body, dict(headers))
            return connection.getresponse(), connection
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Refused(f"{host}: no usable answer: {type(error).__name__}: {error}"[:500]) from None

    def _connected(self, host: str, port: int, scheme: str) -> socket.socket:
        """A connection to one of the host's addresses that may be reached."""
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Refused(
                f"cannot find the host {host!r}: {getattr(error, 'strerror', None) or error}"
            ) from None
        problem = f"the host {host!r} has no address"
        for entry in found:
            address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
            refusal = self._refusal(address)
            if refusal is not None:
                problem = f"{host}: {refusal}"
                continue
            try:
                return _secured(self._dial(entry), host) if scheme == "https" else self._dial(entry)
            except ssl.SSLCertVerificationError as error:
                raise Refused(f"{host}: the certificate is not valid: {error.verify_message}") from None
            except TimeoutError:
                problem = f"{host}: {address} port {port} did not answer within {CONNECT_S:g} s"
            except OSError as error:
                problem = f"{host}: cannot connect to {address} port {port}: {error.strerror or error}"
        raise Refused(problem)

    def _refusal(self, address: Address) -> str | None:
        reason = private_reason(address)
        if reason is None:
            return None
        if address.is_multicast or address.is_unspecified:
            return f"{address} is {reason}; that is never asked"
        if not self._request["allow_private"]:
            return f"{address} is {reason}; only a request with allow_private may ask it"
        if not self._request["consent"]:
            return (
                f"{address} is {reason}; this device does not allow that: "
                "its owner may start the agent with --allow-private-http"
            )
        return None


def _secured(connection: socket.socket, host: str) -> socket.socket:
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _checked(url: str) -> SplitResult:
    """The parts of a URL that a redirect may have brought. Raises Refused."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise Refused(f"redirected to what is no http or https URL: {url[:200]!r}")
    return parts


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        raise Refused(f"redirected to what is no http or https URL: {target[:200]!r}") from None


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _without(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}


def _told(answer: http.client.HTTPResponse, url: str) -> dict[str, Any]:
    """The answer as a result: repeated headers are joined, as the standard allows."""
    try:
        content = answer.read(MAX_CONTENT + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"the answer broke off: {type(error).__name__}: {error}"[:500]) from None
    if len(content) <= MAX_CONTENT and answer.length:
        raise Refused(f"the answer broke off: {answer.length} bytes are missing")
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    charset = answer.headers.get_content_charset("utf-8")
    try:
        text = content[:MAX_CONTENT].decode(charset, errors="replace")
    except LookupError:  # a charset nobody knows
        text = content[:MAX_CONTENT].decode(errors="replace")
    return {
        "status_code": answer.status,
        "headers": headers,
        "content": text,
        "url": url,
        "truncated": len(content) > MAX_CONTENT,
    }


def main() -> None:
    try:
        found = Fetcher(json.load(sys.stdin)).fetch()
    except Refused as error:
        found = {"error": str(error)}
    with os.fdopen(3, "w", encoding="utf-8") as report:
        report.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
