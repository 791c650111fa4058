"""Join tokens: `rcj1_<id>_<secret>_<link>`, where link says how the gateway speaks.

The link is the SHA-256 of the gateway's certificate in hexadecimal, or `plain` where the operator chose to do
without TLS, or missing where the gateway listens on loopback only. It is advice to the agent, not part of the
secret: the server stores a hash of the secret and ignores the link.
"""

import hmac
import re
import secrets
from datetime import datetime
from pathlib import Path

from django.db.models import F

from clusterconfig.models import JoinToken
from retire_cluster import datadir
from retire_cluster.credentials import JOIN_TOKEN_PREFIX, digest

LOCAL_TOKEN_FILE = "join-token"  # noqa: S105 a file name
_FORM = re.compile(JOIN_TOKEN_PREFIX + r"([0-9a-f]{16})_([0-9a-f]{64})(?:_([0-9a-f]{64}|plain))?")


class TokenRefused(Exception):
    """The token does not admit a device; the message says why."""


def create(
    name: str, *, now: datetime, max_uses: int | None = None, expires_at: datetime | None = None
) -> str:
    """Store a new token and return its text, without a link. It cannot be shown again."""
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    JoinToken.objects.create(
        id=token_id,
        name=name,
        digest=digest(secret),
        created_at=now,
        max_uses=max_uses,
        expires_at=expires_at,
    )
    return f"{JOIN_TOKEN_PREFIX}{token_id}_{secret}"


def redeem(text: str, *, now: datetime, reusable: str = "") -> JoinToken | None:
    """Count one use. Returns the token, or None for the operator's own reusable one. Raises TokenRefused."""
    if reusable and hmac.compare_digest(text.encode(), reusable.encode()):
        return None
    form = _FORM.fullmatch(text)
    if form is None:
        raise TokenRefused("this is not a join token of this cluster")
    token = JoinToken.objects.filter(id=form[1]).first()
    if token is None or not hmac.compare_digest(digest(form[2]), token.digest):
        raise TokenRefused("this join token is unknown here; take the one the server printed at its start")
    if token.revoked_at is not None:
        raise TokenRefused(f"the join token {token.name!r} was revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenRefused(f"the join token {token.name!r} expired; make a new one")
    open_tokens = JoinToken.objects.filter(id=token.id)
    if token.max_uses is not None:
        open_tokens = open_tokens.filter(uses__lt=token.max_uses)
    if not open_tokens.update(uses=F("uses") + 1):
        raise TokenRefused(f"the join token {token.name!r} is used up")
    return token


def local_token(directory: Path, *, link: str, now: datetime) -> str:
    """The cluster's standing token, kept in the data directory for local tools; made at first start.

    The file always carries the link of the gateway as it speaks now, which may change from start to start.
    """
    file = directory / LOCAL_TOKEN_FILE
    text = datadir.read_or_create(file, lambda: create("made at first start", now=now))
    form = _FORM.fullmatch(text)
    if form is None or not JoinToken.objects.filter(id=form[1], revoked_at=None).exists():
        # Another database, or the token was revoked: a file that opens nothing helps nobody.
        text = create("made at first start", now=now)
    wanted = with_link(text, link)
    if file.read_text().strip() != wanted:
        datadir.write_private(file, wanted)
    return wanted


def with_link(text: str, link: str) -> str:
    """The token as a device needs it, with what it must know about the gateway's link."""
    form = _FORM.fullmatch(text)
    if form is None:
        return text
    bare = f"{JOIN_TOKEN_PREFIX}{form[1]}_{form[2]}"
    return f"{bare}_{link}" if link else bare
