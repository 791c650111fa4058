"""Stored requirement profiles: found by digest, made when new, limited in number."""

import time
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from retire_cluster import bulk
from tasks.models import Profile
from tasks.scheduling.profiles import ProfileKey

MAX_PROFILES = 10_000
IDLE_BEFORE_DELETE = timedelta(days=7)
_TOUCH_AFTER = timedelta(days=1)  # so that a busy profile is not written at every submit
# Ids are known for so long without asking. No profile in use is deleted; this only bounds how long a process that
# nobody stopped before a restore would go by ids of the database before it.
REMEMBERED_S = 1.0

_remembered: dict[ProfileKey, tuple[int, float]] = {}  # (id, good until)


class TooManyProfiles(Exception):
    """The limit of distinct requirement profiles is reached."""

    def __init__(self) -> None:
        super().__init__(
            f"more than {MAX_PROFILES} distinct sets of requirements are in use; give tasks fewer different ones"
        )


def ensure(keys: Iterable[ProfileKey], *, now: datetime) -> dict[ProfileKey, int]:
    """Ids of the profiles, made where missing. Inside a write transaction. Raises TooManyProfiles."""
    wanted = set(keys)
    asked_at = time.monotonic()
    known = {key: kept[0] for key in wanted if (kept := _remembered.get(key)) and asked_at < kept[1]}
    return known | _looked_up(wanted - known.keys(), now) if len(known) < len(wanted) else known


def forget() -> None:
    """Ask for every profile anew."""
    _remembered.clear()


def _looked_up(keys: Collection[ProfileKey], now: datetime) -> dict[ProfileKey, int]:
    by_digest = {key.digest(): key for key in keys}
    found = {row.digest: row for row in bulk.fetch(Profile, {"digest": list(by_digest)})}
    # Not those that are made or touched below: this transaction may yet be undone.
    _remember({by_digest[row.digest]: row.id for row in found.values() if not _is_stale(row, now)})
    missing = by_digest.keys() - found.keys()
    if missing:
        _create([by_digest[digest] for digest in missing], now)
        found = {row.digest: row for row in bulk.fetch(Profile, {"digest": list(by_digest)})}
    stale = [row.id for row in found.values() if _is_stale(row, now)]
    if stale:
        Profile.objects.filter(id__in=stale).update(last_used_at=now)
    return {key: found[digest].id for digest, key in by_digest.items()}


def _is_stale(row: Profile, now: datetime) -> bool:
    return row.last_used_at < now - _TOUCH_AFTER


def _remember(ids: dict[ProfileKey, int]) -> None:
    if len(_remembered) + len(ids) > MAX_PROFILES:
        _remembered.clear()
    until = time.monotonic() + REMEMBERED_S
    _remembered.update({key: (profile_id, until) for key, profile_id in ids.items()})


def _create(keys: list[ProfileKey], now: datetime) -> None:
    if Profile.objects.count() + len(keys) > MAX_PROFILES:
        Profile.objects.filter(last_used_at__lt=now - IDLE_BEFORE_DELETE, task__isnull=True).delete()
        if Profile.objects.count() + len(keys) > MAX_PROFILES:
            raise TooManyProfiles
    rows = [
        Profile(digest=key.digest(), task_type=key.task_type, requirements=key.canonical(), last_used_at=now)
        for key in keys
    ]
    # Another process may make the same profile at this moment; then its row is ours too.
    Profile.objects.bulk_create(rows, ignore_conflicts=True)
