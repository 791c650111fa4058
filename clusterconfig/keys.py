"""API keys: 256 random bits behind a prefix, stored as a hash, shown once.

Keys given by `--api-key` or RETIRE_CLUSTER_API_KEY may be any text; they are compared, never stored.
"""

import hmac
import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Q

from clusterconfig import audit
from clusterconfig.models import ApiKey
from retire_cluster import datadir, db
from retire_cluster.credentials import API_KEY_PREFIX, digest, new_secret
from retire_cluster.db import write_transaction

logger = logging.getLogger("retire_cluster.keys")

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
    """Whoever presented a valid key; stands where Django has a user.

    `task_types` narrows what `execute` allows, `rate_limits` replaces the default ones; both empty: they do not.
    `key_id` is the row's id, or the short digest of a configured key.
    """

    principal: str
    scopes: frozenset[Scope]
    key_id: str
    task_types: frozenset[str] = frozenset()
    rate_limits: str = ""

    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    pk = None

    def __str__(self) -> str:
        return self.principal


class KeyRefusedError(Exception):
    """The key opens nothing; the message says why and what to do."""


class OwnKeyError(Exception):
    """The key to be revoked is the one that asks."""


def create(
    name: str,
    scopes: Iterable[Scope],
    *,
    now: datetime,
    expires_at: datetime | None = None,
    task_types: Sequence[str] = (),
    rate_limits: str = "",
    actor: audit.Actor = audit.SYSTEM,
) -> tuple[str, ApiKey]:
    """A new key and its row; the key's text cannot be had again."""
    key = new_secret(API_KEY_PREFIX)
    fields = {"expires_at": expires_at, "task_types": list(task_types), "rate_limits": rate_limits}
    return key, _store(key, name, scopes, now=now, actor=actor, **fields)


def revoke(key_id: uuid.UUID, *, now: datetime, actor: audit.Actor, own_too: bool = False) -> ApiKey:
    """End a key for good; one that is revoked already stays as it is.

    Raises ApiKey.DoesNotExist, and OwnKeyError for the caller's own key unless `own_too`: by mistake it locks out.
    """
    with write_transaction():
        row = ApiKey.objects.select_for_update().get(pk=key_id)
        if actor.principal == principal_of(row) and not own_too:
            raise OwnKeyError
        if row.revoked_at is None:
            row.revoked_at = now
            row.save(update_fields=["revoked_at"])
            audit.record(
                "key.revoke",
                str(row.pk),
                actor=actor,
                now=now,
                details={"name": row.name, "prefix": row.prefix},
            )
    return row


def rotate(key_id: uuid.UUID, *, now: datetime, actor: audit.Actor) -> tuple[str, ApiKey]:
    """A new key in the place of one, with its name, rights, limits and end; the old one ends with the same commit.

    Raises ApiKey.DoesNotExist, and KeyRefusedError for a key that opens nothing any more.
    """
    key = new_secret(API_KEY_PREFIX)
    with write_transaction():
        old = ApiKey.objects.select_for_update().get(pk=key_id)
        _require_good(old, now)
        fields = {
            "expires_at": old.expires_at,
            "task_types": old.task_types,
            "rate_limits": old.rate_limits,
        }
        # The words as they stand: a scope of a newer version is not lost.
        row = _store(key, old.name, scopes_of(old), now=now, actor=actor, **fields)
        revoke(old.pk, now=now, actor=actor, own_too=True)
    return key, row


def principal_of(row: ApiKey) -> str:
    """How a key is named as the author of what it did."""
    return f"key:{row.prefix}"


def scopes_of(row: ApiKey) -> list[str]:
    """The scopes a key was given, without those they include."""
    return [word for word in row.scopes.split(",") if word]


def verify(key: str, *, now: datetime) -> KeyHolder:
    """Whose key it is. Raises KeyRefusedError. One query, by the hash: no comparison leaks how much matched."""
    for configured in settings.API_KEYS:
        if hmac.compare_digest(digest(configured), digest(key)):
            short = _short(configured)
            return KeyHolder(f"key:{short}", ALL_SCOPES, short)
    return _usable_holder(_found(digest(key)), now)


def holder_of(key_id: str, *, now: datetime) -> KeyHolder:
    """Who a key known by its id belongs to, as long as it is good. Raises KeyRefusedError. One query."""
    for configured in settings.API_KEYS:
        if key_id == _short(configured):
            return KeyHolder(f"key:{key_id}", ALL_SCOPES, key_id)
    try:
        row = ApiKey.objects.filter(pk=uuid.UUID(key_id)).first()
    except ValueError:
        row = None
    return _usable_holder(row, now)


def _short(configured: str) -> str:
    return f"configured-{digest(configured)[:8]}"


def _found(key_digest: str) -> ApiKey | None:
    """The row of a key; every request asks for one, and composing the statement is the dearest part of it."""
    columns = tuple(field.attname for field in ApiKey._meta.concrete_fields)
    rows = db.select_rows(ApiKey, columns, {"digest": [key_digest]})
    return ApiKey.from_db(connection.alias, columns, rows[0]) if rows else None


def _usable_holder(row: ApiKey | None, now: datetime) -> KeyHolder:
    if row is None:
        raise KeyRefusedError("this API key is not known here")
    _require_good(row, now)
    _note_use(row, now)
    return KeyHolder(
        principal_of(row), _effective(row), str(row.pk), frozenset(row.task_types), row.rate_limits
    )


def _require_good(row: ApiKey, now: datetime) -> None:
    if row.revoked_at is not None:
        raise KeyRefusedError("this API key was revoked; ask an administrator for a new one")
    if row.expires_at is not None and row.expires_at <= now:
        raise KeyRefusedError("this API key has expired; ask an administrator for a new one")


def ensure_admin_key(data_dir: Path, *, now: datetime) -> tuple[str, bool]:
    """The admin key kept in the data directory for local tools, and whether it was made just now.

    A file whose key opens nothing (another database, revoked, expired) is replaced.
    """
    file = data_dir / ADMIN_KEY_FILE
    made = new_secret(API_KEY_PREFIX)
    key = datadir.read_or_create(file, lambda: made)
    if key == made:
        _store(key, "made at first start", [Scope.ADMIN], now=now, actor=audit.SYSTEM)
        return key, True
    if ApiKey.objects.filter(digest=digest(key)).filter(_usable(now)).exists():
        return key, False
    key, _ = create("made at first start", [Scope.ADMIN], now=now)
    datadir.write_private(file, key)
    return key, True


def _store(
    key: str, name: str, scopes: Iterable[str], *, now: datetime, actor: audit.Actor, **fields: Any
) -> ApiKey:
    with write_transaction():
        row = ApiKey.objects.create(
            name=name,
            prefix=key[:PREFIX_CHARACTERS],
            digest=digest(key),
            scopes=",".join(sorted(scopes)),
            created_at=now,
            created_by=actor.principal,
            **fields,
        )
        details = {"name": name, "prefix": row.prefix, "scopes": scopes_of(row)}
        audit.record("key.create", str(row.pk), actor=actor, now=now, details=details)
    return row


def _usable(now: datetime) -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


def _effective(row: ApiKey) -> frozenset[Scope]:
    """Scopes with those they include; words this version does not know grant nothing."""
    known = {scope.value: scope for scope in Scope}
    scopes = frozenset(known[word] for word in scopes_of(row) if word in known)
    if Scope.ADMIN in scopes:
        return ALL_SCOPES
    return scopes | {Scope.SUBMIT} if Scope.EXECUTE in scopes else scopes


def _note_use(row: ApiKey, now: datetime) -> None:
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_EVERY:
        try:
            with write_transaction():
                ApiKey.objects.filter(pk=row.pk).update(last_used_at=now)
        except DatabaseError as error:  # a disk that is full keeps nobody from reading
            logger.warning("the use of a key is not noted: %s", error, extra={"action": "keys"})
