"""Which gateway the relay speaks to, and how it knows that it is the one. No API key goes to any other."""

import hashlib
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from retire_cluster.agent.address import Address, Trust

_PIN = re.compile(r"[0-9a-f]{64}")


class PeerError(ValueError):
    """The flags name no peer that could be trusted; the message names flag and reason."""


class Untrusted(Exception):
    """What answers there did not prove to be the gateway; nothing was sent. The message says what to do."""


class Unvouched(Untrusted):
    """There is a certificate, and nothing this process was told says whose it is."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The gateway: `tls` with one of the `pins`, or with a chain that `ca_file` verifies, or plain."""

    address: Address
    tls: bool
    pins: frozenset[str] = frozenset()
    ca_file: str | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def server_name(self) -> str:
        """What the certificate is asked for by; a zone belongs to this machine only."""
        return self.address.host.partition("%")[0]


def choose(address: Address, *, pins: Iterable[str], ca_file: str, token: str, plain: bool) -> Peer:
    """The peer that the flags describe; the join token counts where no flag says anything. Raises PeerError.

    Over loopback, as through a tunnel, plain is what is expected when nothing is said. Elsewhere a peer without
    pins trusts no certificate: it finds out the fingerprint, for a person to judge.
    """
    known = frozenset(map(parse_pin, pins))
    given = [flag for flag, value in _flags(known, ca_file, plain) if value]
    if len(given) > 1:
        raise PeerError(f"{given[0]} and {given[1]} exclude each other: give one of them")
    if known:
        return Peer(address, tls=True, pins=known)
    if ca_file:
        return Peer(address, tls=True, ca_file=ca_file)
    trust = Trust.of_token(token)
    if trust.pin is not None and not plain:
        return Peer(address, tls=True, pins=frozenset({trust.pin}))
    return Peer(address, tls=not (plain or trust.plain or address.is_loopback))


def _flags(pins: frozenset[str], ca_file: str, plain: bool) -> list[tuple[str, object]]:
    return [("--cluster-pin", pins), ("--cluster-ca", ca_file), ("--insecure-plain", plain)]


def parse_pin(text: str) -> str:
    """SHA-256 of a certificate, in hexadecimal; colons and capitals, as openssl prints them, are fine."""
    pin = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if _PIN.fullmatch(pin) is None:
        raise PeerError(f"--cluster-pin: must be the 64 hexadecimal digits of a SHA-256, is {text!r}")
    return pin


def tls_context(peer: Peer) -> ssl.SSLContext | None:
    """TLS that verifies chain and name by the peer's authority, or leaves the judgement to judge()."""
    if not peer.tls:
        return None
    if peer.ca_file is not None:
        try:
            return ssl.create_default_context(cafile=peer.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise PeerError(f"--cluster-ca {peer.ca_file}: not a usable PEM file ({error})") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def judge(peer: Peer, certificate: bytes | None) -> None:
    """Raise Untrusted unless the certificate (DER) is one of the peer's; to be asked before anything is sent."""
    if not peer.tls or peer.ca_file is not None:
        return
    found = hashlib.sha256(certificate or b"").hexdigest()
    if found in peer.pins:
        return
    if not peer.pins:
        raise Unvouched(
            f"nothing says that the certificate at {peer.address} is the gateway's: nothing was sent. If the join "
            f"command that the gateway prints ends in {found}, it is: start with --cluster-pin {found}"
        )
    raise Untrusted(
        f"the certificate at {peer.address} is not the pinned one: nothing was sent. If the gateway's was renewed, "
        f"and its join command ends in {found}, restart with --cluster-pin {found}; "
        "otherwise something else answers there"
    )
