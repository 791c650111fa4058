"""Join tokens: `rcj1_<id>_<secret>_<link>`, where link says how the gateway speaks.

The link is the SHA-256 of the gateway's certificate in hexadecimal, or `plain` where the operator chose to do
without TLS, or missing where the gateway listens on loopback only. It is advice to the agent, not part of the
secret: the server stores a hash of the secret and ignores the link.
"""

import hmac
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.db.models import F

from clusterconfig import audit
from clusterconfig.models import JoinToken
from retire_cluster import datadir
from retire_cluster.credentials import JOIN_TOKEN_PREFIX, digest
from retire_cluster.db import write_transaction

LOCAL_TOKEN_FILE = "join-token"  # noqa: S105 a file name
TOKEN_ID = re.compile(r"[0-9a-f]{16}")
_FORM = re.compile(JOIN_TOKEN_PREFIX + r"([0-9a-f]{16})_([0-9a-f]{64})(?:_([0-9a-f]{64}|plain))?")


class TokenRefused(Exception):
    """The token does not admit a device; the message says why."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What devices that join with a token are given, whatever they say of themselves; empty: their own word."""

    role: str = ""
    tags: Sequence[str] = ()
    task_types: Sequence[str] = ()
    max_slots: int | None = None


def create(
    name: str,
    *,
    now: datetime,
    max_uses: int | None = None,
    expires_at: datetime | None = None,
    preset: Preset | None = None,
    actor: audit.Actor = audit.SYSTEM,
) -> tuple[str, JoinToken]:
    """A new token's text, without a link, and its row. The text cannot be had again."""
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    preset = preset or Preset()
    with write_transaction():
        row = JoinToken.objects.create(
            id=token_id,
            name=name,
            digest=digest(secret),
            role=preset.role,
            tags=list(preset.tags),
            task_types=list(preset.task_types),
            max_slots=preset.max_slots,
            created_at=now,
            created_by=actor.principal,
            max_uses=max_uses,
            expires_at=expires_at,
        )
        audit.record("token.create", token_id, actor=actor, now=now, details={"name": name})
    return f"{JOIN_TOKEN_PREFIX}{token_id}_{secret}", row


def revoke(token_id: str, *, now: datetime, actor: audit.Actor) -> JoinToken:
    """Admit no further device; one that is revoked already stays as it is. Raises JoinToken.DoesNotExist."""
    with write_transaction():
        row = JoinToken.objects.select_for_update().get(pk=token_id)
        if row.revoked_at is None:
            row.revoked_at = now
            row.save(update_fields=["revoked_at"])
            audit.record("token.revoke", token_id, actor=actor, now=now, details={"name": row.name})
    return row


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


class Uses:
    """Uses of tokens within one transaction. Of a token without a limit, further ones are counted until `store`."""

    def __init__(self, reusable: str = "") -> None:
        self._reusable = reusable
        self._open: dict[str, JoinToken] = {}  # by their text
        self._further = Counter[str]()

    def redeem(self, text: str, *, now: datetime) -> JoinToken | None:
        """As the function of this name. Raises TokenRefused."""
        known = self._open.get(text)
        if known is not None:
            self._further[known.id] += 1
            return known
        token = redeem(text, now=now, reusable=self._reusable)
        if token is not None and token.max_uses is None:
            self._open[text] = token
        return token

    def store(self) -> None:
        """Write what was only counted."""
        for token_id, uses in self._further.items():
            JoinToken.objects.filter(id=token_id).update(uses=F("uses") + uses)
        self._further.clear()


def local_token(directory: Path, *, link: str, now: datetime) -> str:
    """The cluster's standing token, kept in the data directory for local tools; made at first start.

    The file always carries the link of the gateway as it speaks now, which may change from start to start.
    """
    file = directory / LOCAL_TOKEN_FILE
    text = datadir.read_or_create(file, lambda: create("made at first start", now=now)[0])
    form = _FORM.fullmatch(text)
    if form is None or not JoinToken.objects.filter(id=form[1], revoked_at=None).exists():
        # Another database, or the token was revoked: a file that opens nothing helps nobody.
        text, _ = create("made at first start", now=now)
    wanted = with_link(text, link)
    if file.read_text().strip() != wanted:
        datadir.write_private(file, wanted)
    return wanted


def link_of(text: str) -> str:
    """What a token says about the gateway's link; empty when it says nothing."""
    form = _FORM.fullmatch(text)
    return (form[3] or "") if form else ""


def with_link(text: str, link: str) -> str:
    """The token as a device needs it, with what it must know about the gateway's link."""
    form = _FORM.fullmatch(text)
    if form is None:
        return text
    bare = f"{JOIN_TOKEN_PREFIX}{form[1]}_{form[2]}"
    return f"{bare}_{link}" if link else bare
