"""The audit trail: who asked for which change of state, from where. Rows are only ever added."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clusterconfig.models import AuditEntry

MAX_TARGET = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: an API key (`key:rck_…`), a user (`user:ann`), a command (`cli`), a device that
    leaves (`device:nuc`), the cluster itself (`system`)."""

    principal: str
    address: str = ""
    request_id: str = ""


SYSTEM = Actor("system")
COMMAND = Actor("cli")


def record(
    action: str, target: str, *, actor: Actor, now: datetime, details: Mapping[str, Any] | None = None
) -> None:
    """Add a row. Call it in the transaction of the change: neither is stored without the other."""
    AuditEntry.objects.create(
        at=now,
        actor=actor.principal[:100],
        address=actor.address[:45],
        action=action,
        target=target[:MAX_TARGET],
        details=dict(details or {}),
        request_id=actor.request_id,
    )
