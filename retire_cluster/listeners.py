"""Listening sockets, bound before anything else starts, so that a taken port is one clear line."""

import errno
import ipaddress
import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass

from retire_cluster.startup import StartupError
from retire_cluster.tls import Certificate

DEAD_PEER_MS = 20_000  # unacknowledged data this old ends a TCP connection
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and the certificate where it speaks TLS."""

    socket: socket.socket
    host: str
    port: int
    tls: Certificate | None = None

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where a browser on this machine reaches it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 compared only
        authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        return f"{'https' if self.tls else 'http'}://{authority}"


def bind(host: str, port: int, *, flag: str, tls: Certificate | None = None) -> Listener:
    """Bind and listen. Raises StartupError naming the address, the reason and the flag that changes it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartupError(_why_not(host, port, flag, error)) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
        found.bind(address)
        found.listen(BACKLOG)
        found.setblocking(False)
    except OSError as error:
        found.close()
        raise StartupError(_why_not(host, port, flag, error)) from None
    return Listener(found, host, found.getsockname()[1], tls)


def _why_not(host: str, port: int, flag: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; stop it, or choose another with {flag}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this account; choose one above 1023 with {flag}"
    return f"cannot listen on {host}:{port}: {error.strerror or error}; check the address or use {flag}"


def is_loopback(host: str) -> bool:
    """Whether an address (or the name localhost) cannot be reached from another machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_this_machine(host: str) -> bool:
    """Whether the name or address is this machine's own: something here could listen on it."""
    if is_loopback(host) or host in ("0.0.0.0", "::"):  # noqa: S104 compared, not bound
        return True
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
    except OSError:
        return False
    return False


def lan_address() -> str:
    """This machine's address on its default network, or its name where there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(
                ("192.0.2.1", 9)
            )  # a documentation address: connecting a datagram socket only routes
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def gateway_answers(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether one of our gateways answers there, with TLS or without."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # asked who it is, told nothing
    literal = f"[{host}]" if ":" in host else host
    for scheme in ("http", "https"):
        url = f"{scheme}://{literal}:{port}/node/health"
        try:
            with urllib.request.urlopen(url, timeout=timeout_s, context=context) as answer:  # noqa: S310
                return "devices_connected" in json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code == 503 and b"devices_connected" in error.read(4096)
        except (OSError, ValueError):
            continue
    return False
