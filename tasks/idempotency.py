"""The same submission sent again: one key and body name the tasks that were made for them, for 24 hours."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from retire_cluster.protocol import jsontext
from tasks.models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)
MAX_KEY = 255  # characters


class Mismatch(Exception):
    """The key was used for another body."""


@dataclass(frozen=True, slots=True)
class Token:
    """What makes two submissions the same: who sends, the key they chose, and a digest of where and what."""

    client: str
    key: str
    digest: str


def token(*, client: str, key: str, endpoint: str, body: Any) -> Token:
    """The token of a submission; the order of keys and the spacing of its JSON do not matter."""
    text = jsontext.dumps([endpoint, _ordered(body)])
    return Token(client[:100], key, hashlib.sha256(text.encode()).hexdigest())


def recall(wanted: Token, *, now: datetime) -> list[UUID] | None:
    """The tasks made for it, or None. Raises Mismatch. Inside a write transaction."""
    row = IdempotencyKey.objects.filter(client=wanted.client, key=wanted.key).first()
    if row is None:
        return None
    if row.created_at <= now - KEPT_FOR:
        row.delete()
        return None
    if row.digest != wanted.digest:
        raise Mismatch
    return [UUID(task_id) for task_id in row.task_ids]


def remember(wanted: Token, task_ids: Sequence[UUID], *, now: datetime) -> None:
    """Store which tasks were made. Inside their transaction; raises IntegrityError when another was first."""
    IdempotencyKey.objects.create(
        client=wanted.client,
        key=wanted.key,
        digest=wanted.digest,
        task_ids=[task_id.hex for task_id in task_ids],
        created_at=now,
    )


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value
