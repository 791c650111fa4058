"""Asks a gateway for the proof that it knows this device (protocol/pinning.py): to trust a new certificate, or the
doctor would like to know."""

import asyncio
import hashlib
import json
import secrets
import ssl
from dataclasses import dataclass
from urllib.parse import urlencode

from retire_cluster.agent.address import Address
from retire_cluster.protocol import pinning

_MAX_ANSWER = 4096


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the gateway said, and the fingerprint of the certificate it showed; "" on a plain link."""

    proof: object
    nonce: str
    seen: str

    def holds(self, device_id: str, secret: str, fingerprint: str) -> bool:
        return pinning.holds(self.proof, pinning.key_of(secret), device_id, self.nonce, fingerprint)


async def proven_pin(address: Address, device_id: str, secret: str, timeout_s: float) -> str | None:
    """The fingerprint of the certificate shown there now, if its owner proves itself; else None."""
    try:
        answer = await asyncio.to_thread(_ask, address, device_id, timeout_s, tls=True)
    except (OSError, ValueError):
        return None
    return answer.seen if answer.seen and answer.holds(device_id, secret, answer.seen) else None


async def is_known(
    address: Address, device_id: str, secret: str, timeout_s: float, *, tls: bool, own_certificate: bool
) -> bool | None:
    """Whether the gateway knows the device by this secret; None where it does not tell.

    `own_certificate`: what is seen there is the gateway's, so a proof that names another one proves the contrary.
    A gateway behind a proxy that ends TLS names its own, or none.
    """
    try:
        answer = await asyncio.to_thread(_ask, address, device_id, timeout_s, tls=tls)
    except (OSError, ValueError):
        return None
    if not isinstance(answer.proof, str):
        return None  # too many questions, or an older gateway without TLS
    if any(answer.holds(device_id, secret, fingerprint) for fingerprint in (answer.seen, pinning.PLAIN)):
        return True
    return False if own_certificate else None


def _ask(address: Address, device_id: str, timeout_s: float, *, tls: bool) -> _Answer:
    """Raises OSError and ValueError."""
    import http.client  # hardly ever needed, and it weighs on a small device

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the proof is what counts
    connection = (
        http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)
        if tls
        else http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    )
    nonce = secrets.token_hex(32)
    try:
        connection.connect()
        sock = connection.sock
        der = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
        query = urlencode({"device_id": device_id, "nonce": nonce})
        connection.request("GET", f"{pinning.PATH}?{query}")
        said = json.loads(connection.getresponse().read(_MAX_ANSWER))
    except http.client.HTTPException as error:
        raise ValueError(str(error)) from None
    finally:
        connection.close()
    seen = hashlib.sha256(der).hexdigest() if der else pinning.PLAIN
    return _Answer(said.get("proof") if isinstance(said, dict) else None, nonce, seen)
