"""Secrets: how they are made, hashed and compared. Every kind carries its own prefix, so one filter masks all."""

import hashlib
import hmac
import re
import secrets

API_KEY_PREFIX = "rck_"
JOIN_TOKEN_PREFIX = "rcj1_"  # noqa: S105 not a secret: it marks one
DEVICE_SECRET_PREFIX = "rcd_"  # noqa: S105
TICKET_PREFIX = "rct_"
SIGN_IN_PREFIX = "rcs_"

_MASKED = re.compile(r"\b(rck|rcj1?|rcd|rct|rcs)_[A-Za-z0-9_-]+")


def new_secret(prefix: str) -> str:
    """A secret of 256 random bits behind its prefix."""
    return prefix + secrets.token_hex(32)


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal. Enough for 256 random bits; a slow hash would only slow every request."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def matches(secret: str, stored_digest: str) -> bool:
    """Whether the secret is the one that was stored, in constant time."""
    return hmac.compare_digest(digest(secret), stored_digest)


def mask(text: str) -> str:
    """The text with every secret in it cut down to its kind."""
    return _MASKED.sub(r"\1_***", text)
