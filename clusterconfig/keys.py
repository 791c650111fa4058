"""API keys: 256 random bits behind a prefix, stored as a hash, shown once.

Keys given by `--api-key` or RETIRE_CLUSTER_API_KEY may be any text; they are compared, never stored.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.db.models import Q

from clusterconfig.models import ApiKey
from retire_cluster import datadir
from retire_cluster.credentials import API_KEY_PREFIX, digest, new_secret
from retire_cluster.db import write_transaction

ADMIN_KEY_FILE = "api-key"
PREFIX_CHARACTERS = 16  # of a key that may be shown: its kind and 48 bits, enough to tell keys apart
LAST_USED_EVERY = timedelta(minutes=1)  # a busy client must not cost a write per request


class Scope(StrEnum):
    """What a key may do. `execute` includes `submit`; `admin` includes everything."""

    READ = "read"
    SUBMIT = "submit"
    EXECUTE = "execute"
    OPERATE = "operate"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whoever presented a valid key; stands where Django has a user."""

    principal: str
    scopes: frozenset[Scope]

    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    pk = None

    def __str__(self) -> str:
        return self.principal


class KeyRefusedError(Exception):
    """The key opens nothing; the message says why and what to do."""


def create(
    name: str, scopes: Iterable[Scope], *, now: datetime, expires_at: datetime | None = None
) -> tuple[str, ApiKey]:
    """A new key and its row; the key's text cannot be had again."""
    key = new_secret(API_KEY_PREFIX)
    return key, _store(key, name, scopes, now=now, expires_at=expires_at)


def verify(key: str, *, now: datetime) -> KeyHolder:
    """Whose key it is. Raises KeyRefusedError. One query, by the hash: no comparison leaks how much matched."""
    for configured in settings.API_KEYS:
        if hmac.compare_digest(digest(configured), digest(key)):
            return KeyHolder(f"key:configured-{digest(key)[:8]}", ALL_SCOPES)
    row = ApiKey.objects.filter(digest=digest(key)).first()
    if row is None:
        raise KeyRefusedError("this API key is not known here")
    if row.revoked_at is not None:
        raise KeyRefusedError("this API key was revoked; ask an administrator for a new one")
    if row.expires_at is not None and row.expires_at <= now:
        raise KeyRefusedError("this API key has expired; ask an administrator for a new one")
    _note_use(row, now)
    return KeyHolder(f"key:{row.prefix}", _scopes(row.scopes))


def ensure_admin_key(data_dir: Path, *, now: datetime) -> tuple[str, bool]:
    """The admin key kept in the data directory for local tools, and whether it was made just now.

    A file whose key opens nothing (another database, revoked, expired) is replaced.
    """
    file = data_dir / ADMIN_KEY_FILE
    made = new_secret(API_KEY_PREFIX)
    key = datadir.read_or_create(file, lambda: made)
    if key == made:
        _store(key, "made at first start", [Scope.ADMIN], now=now)
        return key, True
    if ApiKey.objects.filter(digest=digest(key)).filter(_usable(now)).exists():
        return key, False
    key, _ = create("made at first start", [Scope.ADMIN], now=now)
    datadir.write_private(file, key)
    return key, True


def _store(
    key: str, name: str, scopes: Iterable[Scope], *, now: datetime, expires_at: datetime | None = None
) -> ApiKey:
    with write_transaction():
        return ApiKey.objects.create(
            name=name,
            prefix=key[:PREFIX_CHARACTERS],
            digest=digest(key),
            scopes=",".join(sorted(scopes)),
            created_at=now,
            expires_at=expires_at,
        )


def _usable(now: datetime) -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


def _scopes(stored: str) -> frozenset[Scope]:
    """Scopes of a row; words this version does not know grant nothing."""
    known = {scope.value: scope for scope in Scope}
    scopes = frozenset(known[word] for word in stored.split(",") if word in known)
    if Scope.ADMIN in scopes:
        return ALL_SCOPES
    return scopes | {Scope.SUBMIT} if Scope.EXECUTE in scopes else scopes


def _note_use(row: ApiKey, now: datetime) -> None:
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_EVERY:
        with write_transaction():
            ApiKey.objects.filter(pk=row.pk).update(last_used_at=now)
