"""The database side of placement: queued tasks in, claims out. Decisions are planner.py's.

Runs in the committer of the gateway that owns the devices' connections. What is free is derived from the live
attempts inside the transaction, never counted, so nothing drifts.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from operator import attrgetter
from uuid import UUID, uuid4

from devices.capacity import Signature
from devices.models import Device
from retire_cluster import bulk, db
from retire_cluster.protocol.states import TaskStatus
from tasks import reservations, rules
from tasks.lifecycle import Ledger
from tasks.models import Profile, Task
from tasks.scheduling.feasibility import feasible
from tasks.scheduling.planner import (
    HELD_AT_MOST,
    Candidate,
    DeviceView,
    Placement,
    Prospect,
    has_room,
    is_wide,
    may_hold,
    plan,
)
from tasks.scheduling.profiles import ProfileKey, from_canonical

OFFER_S = 10.0  # an offer unanswered for so long is returned
PROBED_PROFILES = 64  # of those that fit and find room, by the rank of their first task
JUDGED_PROFILES = 1024  # a step looks no further for them than this
PROSPECTS = 64  # of the devices that fit, by id: one of them is held for a wide task
CONSIDERED_DEVICES = 256  # a step looks at no more free devices than this
TAKES_TASKS = "online AND NOT cordoned AND paused_reason = ''"
_VERDICTS_KEPT = 100_000
# A large payload is read once it is known that its task is placed.
_CONTENT = ("profile_id", "task_type", "CASE WHEN length(payload) <= 4096 THEN payload END")


@dataclass(frozen=True, slots=True)
class Claim:
    """A task claimed for a device: everything its `assign` message needs."""

    attempt_id: UUID
    task_id: UUID
    device_id: str
    session: int
    task_type: str
    payload: str
    timeout_s: int
    wait_for_go: bool
    reservation: tuple[int, int, int]


class Matcher:
    """Remembers profiles (immutable rows) and which signatures satisfy them."""

    def __init__(self) -> None:
        self._profiles: dict[int, ProfileKey] = {}
        self._verdicts: OrderedDict[tuple[int, Signature], bool] = OrderedDict()

    def load(self, profile_ids: Iterable[int]) -> dict[int, ProfileKey]:
        """The profiles by id, from memory where it has them."""
        wanted = list(profile_ids)
        unknown = [profile_id for profile_id in wanted if profile_id not in self._profiles]
        for row in Profile.objects.filter(id__in=unknown) if unknown else ():
            self._profiles[row.id] = from_canonical(row.task_type, row.requirements)
        return {
            profile_id: self._profiles[profile_id] for profile_id in wanted if profile_id in self._profiles
        }

    def fits(self, profile_id: int, signature: Signature) -> bool:
        key = (profile_id, signature)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = feasible(self._profiles[profile_id], signature)
            if len(self._verdicts) > _VERDICTS_KEPT:
                self._verdicts.popitem(last=False)
        return verdict


def place(ledger: Ledger, connected: Sequence[DeviceView], matcher: Matcher) -> tuple[list[Claim], bool]:
    """Claim queued tasks for free devices. `connected` are the gateway's open devices, free or not.

    Returns the claims, which are in the ledger but not flushed yet, and whether tasks that fit a connected
    device stayed behind, so that the next slot to become free is worth another look.
    """
    free = [device for device in connected if device.free_slots > 0]
    if not free:
        return [], True
    queued = heads()
    profiles = matcher.load(profile_id for profile_id, _ in queued)
    fitting = _fitting(queued, connected, profiles, matcher)
    wanted = _probed(fitting, profiles, free, matcher)
    devices = _confirm(
        [device for device in free if any(matcher.fits(item, device.signature) for item in wanted)]
    )
    roomy = [item for item in wanted if _has_room(item, profiles[item], devices, matcher)]
    if not roomy:
        return [], bool(fitting)
    room = sum(device.free_slots for device in devices)
    candidates, content = _candidates(ledger, roomy, room)
    cramped = [item for item in wanted if item not in roomy and is_wide(profiles[item])]
    candidates = sorted([*candidates, *_waiting(ledger, cramped)], key=attrgetter("rank", "task_id"))
    wide = {item.profile_id for item in candidates if may_hold(item, profiles[item.profile_id])}
    prospects = _prospects(wide, devices, connected, matcher) if wide else []
    # Asked only of what avoids a device: to count all would look at every device for every profile.
    avoiding = {item.profile_id for item in candidates if item.avoid_device}
    online = {item: sum(matcher.fits(item, device.signature) for device in connected) for item in avoiding}
    made = plan(candidates, devices, profiles, online, prospects)
    left = len(candidates) - len(made.placements)
    return _claim(ledger, made.placements, content), left > 0 or len(candidates) >= room or len(roomy) < len(
        fitting
    )


def heads() -> list[tuple[int, int]]:
    """(profile, rank of its first queued task), in rank order: a loose scan of the queue's index."""
    # SQLite would take the index on status, and walk over every queued task.
    queue = f"tasks_task {bulk.indexed_by('task_queue')}"
    rows = bulk.ask(
        f"""
        WITH RECURSIVE active(profile_id) AS (
            SELECT min(profile_id) FROM {queue} WHERE status = 'queued'
            UNION ALL
            SELECT (SELECT min(profile_id) FROM {queue}
                    WHERE status = 'queued' AND profile_id > active.profile_id)
            FROM active WHERE active.profile_id IS NOT NULL
        )
        SELECT profile_id,
               (SELECT min(rank) FROM {queue}
                WHERE status = 'queued' AND tasks_task.profile_id = active.profile_id)
        FROM active WHERE profile_id IS NOT NULL
        """  # noqa: S608 names are ours
    )
    return sorted(((row[0], row[1]) for row in rows), key=lambda head: (head[1], head[0]))


def _fitting(
    queued: list[tuple[int, int]],
    connected: Sequence[DeviceView],
    profiles: dict[int, ProfileKey],
    matcher: Matcher,
) -> list[int]:
    """Profiles that some connected device satisfies, the one with the best-ranked task first."""
    signatures = {device.signature for device in connected}
    return [
        profile_id
        for profile_id, _ in queued
        if profile_id in profiles and any(matcher.fits(profile_id, signature) for signature in signatures)
    ]


def _probed(
    fitting: Sequence[int], profiles: dict[int, ProfileKey], free: Sequence[DeviceView], matcher: Matcher
) -> list[int]:
    """Those whose tasks are looked at: the first that find room, and the first for which some may be kept free.

    Only these: however many wait in front for more room than there is, whoever fits behind them is found.
    """
    judged = fitting[:JUDGED_PROFILES]
    roomy = {item for item in judged if _has_room(item, profiles[item], free, matcher)}
    first = [item for item in judged if item in roomy][:PROBED_PROFILES]
    cramped = [item for item in judged if item not in roomy and is_wide(profiles[item])][:PROBED_PROFILES]
    chosen = {*first, *cramped}
    return [item for item in judged if item in chosen]


def _confirm(devices: Sequence[DeviceView]) -> list[DeviceView]:
    """Lock the devices and derive what is free on them now; those that moved on or take nothing drop out."""
    best = sorted(devices, key=DeviceView.score)[:CONSIDERED_DEVICES]
    by_id = {device.id: device for device in best}
    rows = bulk.select_rows(Device, ("id", "session"), {"id": list(by_id)}, also=TAKES_TASKS, lock="skip")
    open_sessions = dict(rows)
    confirmed = [device for device in best if open_sessions.get(device.id) == device.session]
    # A second statement, so that it sees what committed before the locks were ours.
    taken = reservations.taken(device.id for device in confirmed)
    return [
        reservations.with_free(device, taken.get(device.id, reservations.NOTHING)) for device in confirmed
    ]


def _has_room(profile_id: int, profile: ProfileKey, devices: Sequence[DeviceView], matcher: Matcher) -> bool:
    return any(matcher.fits(profile_id, device.signature) and has_room(profile, device) for device in devices)


Content = tuple[str, str | None]  # a task's type, and its payload unless it is large


def _candidates(
    ledger: Ledger, profile_ids: Sequence[int], room: int
) -> tuple[list[Candidate], dict[UUID, Content]]:
    """The first tasks of each profile, locked, at most twice the room there is; and what they are about."""
    heads, values = _head_tasks(profile_ids, room)
    loaded = ledger.load_where(heads, values, _CONTENT)
    # Looked at again under the lock: what was found may have moved on meanwhile.
    found = [
        (row, more)
        for row, more in loaded
        if row.status is TaskStatus.QUEUED and row.cancel_requested_at is None
    ]
    candidates = [
        Candidate(row.id, profile_id, row.avoid_device, (ledger.now - row.ready_at).total_seconds(), row.rank)
        for row, (profile_id, _, _) in found
    ]
    return candidates, {row.id: (task_type, payload) for row, (_, task_type, payload) in found}


def _waiting(ledger: Ledger, profile_ids: Sequence[int]) -> list[Candidate]:
    """The first tasks of profiles that have no room anywhere now: not to be placed, so not locked either."""
    if not profile_ids:
        return []
    heads, values = _head_tasks(profile_ids, HELD_AT_MOST)
    columns = ("id", "profile_id", "rank", "ready_at")
    rows = bulk.select_where(Task, columns, heads, values)
    return [
        Candidate(task_id, profile_id, ready_for_s=(ledger.now - ready_at).total_seconds(), rank=rank)
        for task_id, profile_id, rank, ready_at in rows
    ]


def _prospects(
    profile_ids: Iterable[int],
    devices: Sequence[DeviceView],
    connected: Sequence[DeviceView],
    matcher: Matcher,
) -> list[Prospect]:
    """The devices that may be held for the profiles: the same ones each time, whatever is free on them."""
    chosen: dict[str, DeviceView] = {}
    for profile_id in profile_ids:
        fitting = [device for device in connected if matcher.fits(profile_id, device.signature)]
        chosen.update((device.id, device) for device in nsmallest(PROSPECTS, fitting, key=attrgetter("id")))
    confirmed = {device.id: device for device in devices}
    releases = reservations.releases(chosen)
    in_service = {row[0] for row in bulk.select_rows(Device, ("id",), {"id": list(chosen)}, also=TAKES_TASKS)}
    return [
        Prospect(
            confirmed.get(device_id) or reservations.with_releases(view, releases[device_id]),
            releases[device_id],
        )
        for device_id, view in chosen.items()
        if device_id in in_service
    ]


def _head_tasks(profile_ids: Sequence[int], room: int) -> tuple[str, list[int]]:
    """A condition in SQL for the best-ranked queued tasks, and its values: one short index scan per profile."""
    scan = """
        SELECT rank, id FROM (
            SELECT rank, id FROM tasks_task
            WHERE status = 'queued' AND profile_id = %s ORDER BY rank, id LIMIT %s
        ) AS head
    """
    union = " UNION ALL ".join([scan] * len(profile_ids))
    values = [value for profile_id in profile_ids for value in (profile_id, room)]
    heads = f"SELECT id FROM ({union} ORDER BY rank, id LIMIT %s) AS first"  # noqa: S608 only marks are added
    # An array first: joined with its own table, Postgres looked for each head anew (13 ms instead of 0.3).
    condition = f"id IN ({heads})" if db.is_sqlite() else f"id = ANY(ARRAY({heads}))"
    return condition, [*values, 2 * room]


def _claim(ledger: Ledger, placements: Sequence[Placement], content: Mapping[UUID, Content]) -> list[Claim]:
    """Apply the rule to each placement and gather what the messages need."""
    large = [item.task_id for item in placements if content[item.task_id][1] is None]
    payloads = dict(bulk.select_rows(Task, ("id", "payload"), {"id": large}))
    claims: list[Claim] = []
    for placement in placements:
        task = ledger.task(placement.task_id)
        step = task and rules.claim(
            task,
            attempt_id=uuid4(),
            device_id=placement.device.id,
            session=placement.device.session,
            reservation=placement.reservation,
            now=ledger.now,
            offer_s=OFFER_S,
        )
        if step:
            ledger.put(step)
            task_type, payload = content[step.task.id]
            claims.append(
                _message(step, task_type, payloads[step.task.id] if payload is None else payload, placement)
            )
    return claims


def _message(step: rules.Step, task_type: str, payload: str, placement: Placement) -> Claim:
    return Claim(
        attempt_id=step.attempt.id,
        task_id=step.task.id,
        device_id=step.attempt.device_id,
        session=step.attempt.session,
        task_type=task_type,
        payload=payload,
        timeout_s=step.task.timeout_s,
        wait_for_go=step.task.on_device_loss == "fail",
        reservation=placement.reservation,
    )
