"""Keys, join tokens and audit rows as the API shows them; requests for new ones as it reads them."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from clusterconfig import joining, keys, tokens
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, AuditEntry, JoinToken
from retire_cluster.api import rates
from retire_cluster.api.filters import moment
from retire_cluster.api.validation import ObjectReader
from retire_cluster.protocol.states import Role

LONGEST_LIFE_S = 10 * 365 * 24 * 3600
MAX_TAGS = 32
MAX_TASK_TYPES = 100
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAG_WORDS = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
_TASK_TYPE = re.compile(r"[^\x00-\x1f]{1,100}")
_TASK_TYPE_WORDS = "1 to 100 characters, without control characters"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A validated request for a key."""

    name: str
    scopes: list[Scope]
    task_types: list[str]
    rate_limits: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A validated request for a join token."""

    name: str
    preset: tokens.Preset
    max_uses: int | None
    expires_at: datetime | None


# --- what is asked for ----------------------------------------------------------------------------------------


def parse_key(body: Any, *, now: datetime) -> NewKey:
    """Read the body of POST keys. Raises the API's 400 with every field that is wrong."""
    reader = ObjectReader(body)
    new = NewKey(
        name=_name(reader),
        scopes=_scopes(reader),
        task_types=_task_types(reader),
        rate_limits=_rate_limits(reader),
        expires_at=_expiry(reader, now),
    )
    if new.task_types and (Scope.EXECUTE not in new.scopes or Scope.ADMIN in new.scopes):
        reader.fail("task_types", "narrows the scope 'execute': give that one, and not 'admin'")
    reader.finish()
    return new


def parse_token(body: Any, *, now: datetime) -> NewToken:
    """Read the body of POST join-tokens. Raises the API's 400 with every field that is wrong."""
    reader = ObjectReader(body)
    new = NewToken(
        name=_name(reader),
        preset=tokens.Preset(
            role=reader.choice("role", Role, None) or "",
            tags=_names(reader, "tags", MAX_TAGS, _TAG, _TAG_WORDS),
            task_types=_task_types(reader),
            max_slots=reader.integer("max_slots", 1, 1024, None),
        ),
        max_uses=reader.integer("max_uses", 1, 1_000_000, None),
        expires_at=_expiry(reader, now),
    )
    reader.finish()
    return new


def _name(reader: ObjectReader) -> str:
    name = reader.text("name", longest=100)
    if any(ord(character) < 32 for character in name):
        reader.fail("name", "must not contain control characters")
    return name


def _scopes(reader: ObjectReader) -> list[Scope]:
    words = reader.strings("scopes", most=len(Scope))
    known = [scope.value for scope in Scope]
    if any(word not in known for word in words):
        reader.fail("scopes", f"must be among {', '.join(known)}")
        return []
    if not words:
        reader.fail("scopes", f"is required: one or more of {', '.join(known)}")
    return [Scope(word) for word in words]


def _task_types(reader: ObjectReader) -> list[str]:
    return _names(reader, "task_types", MAX_TASK_TYPES, _TASK_TYPE, _TASK_TYPE_WORDS)


def _names(reader: ObjectReader, name: str, most: int, form: re.Pattern[str], words: str) -> list[str]:
    given = reader.strings(name, most=most)
    wrong = [item for item in given if not form.fullmatch(item)]
    if wrong:
        reader.fail(name, f"{wrong[0][:50]!r} must be {words}")
    return given


def _rate_limits(reader: ObjectReader) -> str:
    text = reader.optional_text("rate_limits", longest=100)
    try:
        rates.parse(text or rates.OFF)
    except ValueError as error:
        reader.fail("rate_limits", str(error))
    return text


def _expiry(reader: ObjectReader, now: datetime) -> datetime | None:
    """Of `expires_at` and `expires_in_seconds`, at most one; without both it lasts."""
    text = reader.optional_text("expires_at", longest=40)
    seconds = reader.integer("expires_in_seconds", 1, LONGEST_LIFE_S, None)
    if text and seconds:
        reader.fail("expires_in_seconds", "cannot be combined with expires_at")
    if not text:
        return now + timedelta(seconds=seconds) if seconds else None
    try:
        expires_at = moment(text)
    except ValueError as error:
        reader.fail("expires_at", str(error))
        return None
    if expires_at <= now:
        reader.fail("expires_at", "must be in the future")
    return expires_at


# --- what is shown --------------------------------------------------------------------------------------------


def key_row(row: ApiKey, *, now: datetime) -> dict[str, Any]:
    """A key without its text, which nobody has but its holder."""
    return {
        "id": row.pk,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": keys.scopes_of(row),
        "task_types": row.task_types,
        "rate_limits": row.rate_limits or None,
        "is_active": row.revoked_at is None and not _is_past(row.expires_at, now),
        **_life(row),
        "last_used_at": row.last_used_at,
    }


def token_row(row: JoinToken, *, now: datetime) -> dict[str, Any]:
    """A join token without its text."""
    is_used_up = row.max_uses is not None and row.uses >= row.max_uses
    return {
        "id": row.pk,
        "name": row.name,
        "role": row.role or None,
        "tags": row.tags,
        "task_types": row.task_types,
        "max_slots": row.max_slots,
        "uses": row.uses,
        "max_uses": row.max_uses,
        "is_active": row.revoked_at is None and not is_used_up and not _is_past(row.expires_at, now),
        **_life(row),
    }


def audit_row(row: AuditEntry) -> dict[str, Any]:
    """One entry of the audit trail."""
    return {
        "id": row.pk,
        "at": row.at,
        "actor": row.actor or None,
        "address": row.address or None,
        "action": row.action,
        "target": row.target or None,
        "details": row.details,
        "request_id": row.request_id or None,
    }


def new_token(text: str, row: JoinToken, *, now: datetime) -> dict[str, Any]:
    """A token just made: the only time its text is shown."""
    shown = joining.as_device_needs_it(text)
    return {"token": shown, "join_command": joining.command(shown), **token_row(row, now=now)}


def _life(row: ApiKey | JoinToken) -> dict[str, Any]:
    names = ("created_by", "created_at", "expires_at", "revoked_at")
    return {name: getattr(row, name) or None for name in names}


def _is_past(moment_or_none: datetime | None, now: datetime) -> bool:
    return moment_or_none is not None and moment_or_none <= now


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID, with or without dashes."""
    try:
        return len(text) in (32, 36) and bool(uuid.UUID(text))
    except ValueError:
        return False
