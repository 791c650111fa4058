"""Gateway addresses and join tokens, and the rule which link may be used to whom. Pure."""

import ipaddress
import re
from dataclasses import dataclass

from retire_cluster.agent.errors import ConfigError

DEFAULT_PORT = 8080
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
# rcj1_<id>_<secret>, then the SHA-256 of the gateway's certificate, or the word "plain".
_TOKEN = re.compile(r"rcj1_[^_]+_.+?(?:_(?P<pin>[0-9a-f]{64})|_(?P<plain>plain))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the connection cannot leave this machine."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host.lower() in ("localhost", "localhost.localdomain")


def parse_address(text: str, flag: str = "--join") -> Address:
    """Parse HOST, HOST:PORT, [IPV6] or [IPV6]:PORT. Raises ConfigError naming the flag."""
    host, port = _split(text.strip(), flag)
    if not _is_host(host):
        raise ConfigError(f"{flag}: {text!r} is not HOST[:PORT] (IPv6 addresses in brackets: [fe80::1]:8080)")
    return Address(host, _port(port, text, flag))


def _split(text: str, flag: str) -> tuple[str, str]:
    if "://" in text:
        raise ConfigError(f"{flag}: {text!r} is a URL; give HOST[:PORT] only")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            return "", ""
        return host, rest[1:]
    host, _, port = text.partition(":")
    # An IPv6 address without brackets is accepted where it cannot be mistaken for HOST:PORT.
    return (text, "") if text.count(":") > 1 else (host, port)


def _is_host(host: str) -> bool:
    if ":" not in host:
        return bool(_HOST.fullmatch(host))
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _port(port: str, text: str, flag: str) -> int:
    if not port:
        return DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ConfigError(f"{flag}: the port in {text!r} must be 1 to 65535")
    return int(port)


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known about the gateway's end of the link."""

    pin: str | None = None  # lower-case hexadecimal SHA-256 of its certificate
    plain: bool = False  # its operator chose a link without encryption

    @classmethod
    def of_token(cls, token: str) -> "Trust":
        """What a join token says; any string but rcj1_… says nothing."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return cls()
        return cls(pin=match["pin"], plain=match["plain"] is not None)


@dataclass(frozen=True, slots=True)
class Link:
    """How to connect: plain when `tls` is false; a `pin` is compared, `ca_file` verifies chain and name."""

    tls: bool
    pin: str | None = None
    ca_file: str | None = None


def choose_link(address: Address, trust: Trust, *, ca_file: str | None, insecure_plain: bool) -> Link:
    """The only link allowed to this gateway. Raises ConfigError where none is safe."""
    if ca_file is not None:
        return Link(tls=True, ca_file=ca_file)
    if trust.pin is not None:
        return Link(tls=True, pin=trust.pin)
    if trust.plain or insecure_plain or address.is_loopback:
        return Link(tls=False)
    raise ConfigError(
        f"--join {address}: the token does not name the gateway's certificate, so the link would be neither "
        "private nor proven; use the full rcj1_… token the gateway prints, or --ca FILE, "
        "or --insecure-plain if you trust this network"
    )
