"""How a gateway with a new certificate proves to a device it knows that it is still the same cluster.

The device holds a secret, the gateway its SHA-256. Asked with a nonce, the gateway answers with a MAC of it under
that hash, and of the certificate it shows. Somebody in between cannot pass the answer on: it names another
certificate than the one the device sees. The device says nothing but its public id. A gateway without TLS
answers for no certificate: that vouches for none, and tells a device whether it is still known.
"""

import hashlib
import hmac

PATH = "/node/proof"
PLAIN = ""  # the fingerprint of a gateway that shows no certificate
_PURPOSE = "retire-cluster certificate 1"


def key_of(secret: str) -> str:
    """What the server keeps of a device's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def proof(key: str, device_id: str, nonce: str, fingerprint: str) -> str:
    """The gateway's answer, in hexadecimal; `fingerprint` is the SHA-256 of the certificate it shows."""
    words = "\n".join((_PURPOSE, device_id, nonce, fingerprint))
    return hmac.new(key.encode(), words.encode(), hashlib.sha256).hexdigest()


def holds(answer: object, key: str, device_id: str, nonce: str, fingerprint: str) -> bool:
    """Whether the answer proves it, in constant time."""
    wanted = proof(key, device_id, nonce, fingerprint)
    return isinstance(answer, str) and answer.isascii() and hmac.compare_digest(answer, wanted)
