"""Asks a gateway that shows a new certificate for the proof that it knows this device (protocol/pinning.py)."""

import asyncio
import hashlib
import json
import secrets
import ssl
from urllib.parse import urlencode

from retire_cluster.agent.address import Address
from retire_cluster.protocol import pinning

_MAX_ANSWER = 4096


async def proven_pin(address: Address, device_id: str, secret: str, timeout_s: float) -> str | None:
    """The fingerprint of the certificate shown there now, if its owner proves itself; else None."""
    try:
        return await asyncio.to_thread(_ask, address, device_id, secret, timeout_s)
    except (OSError, ValueError):
        return None


def _ask(address: Address, device_id: str, secret: str, timeout_s: float) -> str | None:
    import http.client  # hardly ever needed, and it weighs on a small device

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the proof is what counts
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)
    nonce = secrets.token_hex(32)
    try:
        connection.connect()
        der = connection.sock.getpeercert(binary_form=True)
        query = urlencode({"device_id": device_id, "nonce": nonce})
        connection.request("GET", f"{pinning.PATH}?{query}")
        said = json.loads(connection.getresponse().read(_MAX_ANSWER))
    except http.client.HTTPException as error:
        raise ValueError(str(error)) from None
    finally:
        connection.close()
    seen = hashlib.sha256(der or b"").hexdigest()
    answer = said.get("proof") if isinstance(said, dict) else None
    proven = pinning.holds(answer, pinning.key_of(secret), device_id, nonce, seen)
    return seen if der and proven else None
