"""Judges an episode's history by the invariants of docs/explanation/delivery-guarantees.md. Pure.

Each judge looks at one promise and knows nothing of how the cluster keeps it. tests/unit/torture shows for every
one of them a history that it condemns: a checker that cannot fail proves nothing.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from retire_cluster.torture.history import (
    CANCELLED,
    FAILED,
    REPORTED_FAILURES,
    SUCCESS,
    TIMEOUT,
    Asked,
    Change,
    Execution,
    History,
    OnDisk,
    Outage,
    Seen,
    SeenAttempt,
    StoredAttempt,
    Story,
)

SWEEP_S = 5.0  # I5: a lease's end shows at most this late while a gateway runs
RESTART_S = (
    35.0  # I5: after a restart, or a while of blindness, leases last 30 s, and the blind pass comes late
)
BUSY_S = 5.0  # what a machine under torture may be late with a time limit
CLOCK_S = 0.5  # between a process's last sign and the report of its end
GIVEN_UP = frozenset({"lost", "returned"})
_ANY_END = frozenset({SUCCESS, FAILED, TIMEOUT, CANCELLED})
# Every stored change of a status there may be. From `queued` straight to an end: the lost device came back with its
# result before anybody else took the task. An end is left only by a retry, into the next round.
LEGAL = {
    "": frozenset({"queued"}),
    "pending": frozenset({"queued", CANCELLED}),
    "queued": frozenset({"assigned", "running", "pending"}) | _ANY_END,
    "assigned": frozenset({"running", "queued", "pending"}) | _ANY_END,
    "running": frozenset({"queued", "pending"}) | _ANY_END,
    FAILED: frozenset({"queued"}),
    TIMEOUT: frozenset({"queued"}),
    CANCELLED: frozenset({"queued"}),
    SUCCESS: frozenset[str](),
}
# Outcomes a task may owe its terminal status to. A lost device ends it as failed.
DECIDED_BY = {
    SUCCESS: {SUCCESS},
    FAILED: {FAILED, "lost"},
    TIMEOUT: {TIMEOUT},
    CANCELLED: {CANCELLED},
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, which task it was made to, and what happened."""

    promise: str
    nonce: str
    what: str


Found = Iterator[str]
Judge = Callable[[History, Story], Found]


def judge(history: History) -> list[Violation]:
    """Every violation of the episode."""
    found = [Violation("settling", "", f"waited in vain for {what}") for what in history.unsettled]
    found += [Violation("I8", "", what) for what in overbooked(history)]
    found += [Violation("I4", "", f"never delivered: {item}") for item in history.undelivered]
    for own, story in _each(history):
        for promise, judges in JUDGES.items():
            for look in judges:
                found += [Violation(promise, story.nonce, what) for what in look(own, story)]
    return found


def _each(history: History) -> Iterator[tuple[History, Story]]:
    """Each story, and the history with no other story's rows: among thousands nobody looks at all for each."""
    changes: defaultdict[str, list[tuple[int, Change]]] = defaultdict(list)
    for place, change in enumerate(history.changes):
        changes[change.id].append((place, change))
    on_disk: defaultdict[str, list[OnDisk]] = defaultdict(list)
    for item in history.on_disk:
        on_disk[item.attempt].append(item)
    for story in history.stories:
        attempts = [attempt.id for attempt in story.attempts]
        rows = [*attempts, story.row.id] if story.row else attempts
        ordered = sorted((pair for row in rows for pair in changes[row]), key=lambda pair: pair[0])
        disks = [item for attempt in attempts for item in on_disk[attempt]]
        yield replace(history, changes=tuple(change for _, change in ordered), on_disk=tuple(disks)), story


# --- I1, I11: what was accepted -----------------------------------------------------------------------------------


def accepted_is_kept(_: History, story: Story) -> Found:
    """I1: a 201 survives whatever happens afterwards."""
    for asked in story.asked_for("submit"):
        if asked.code == 201 and (story.row is None or story.row.id != asked.task_id):
            yield f"the task {asked.task_id} was accepted and is not in the database"


def one_key_one_task(_: History, story: Story) -> Found:
    """I11: however often it was submitted, one task came of it."""
    ids = {asked.task_id for asked in story.asked_for("submit") if asked.code == 201}
    if len(ids) > 1:
        yield f"one Idempotency-Key was answered with {len(ids)} tasks: {', '.join(sorted(ids))}"
    if story.copies > 1:
        yield f"one Idempotency-Key made {story.copies} tasks"


def answers_are_expected(_: History, story: Story) -> Found:
    """The server refuses only what the task's state does not allow, and never breaks."""
    allowed = {"submit": {201, 503}, "cancel": {200, 409, 503}, "retry": {200, 409, 503}}
    for asked in story.asked:
        if asked.code is not None and asked.code not in allowed[asked.action]:
            yield f"{asked.action} was answered with {asked.code}"


# --- I2: one end --------------------------------------------------------------------------------------------------


def every_task_ends(_: History, story: Story) -> Found:
    """The row is terminal and owes it to an attempt that ended accordingly."""
    row = story.row
    if row is None:
        return
    if not row.is_terminal or row.finished_at is None:
        yield f"it never ended: {row}"
        return
    deciding = next((item for item in story.attempts if item.id == row.result_attempt), None)
    if deciding is None:
        if row.result_attempt or row.status != CANCELLED:
            yield f"{row.status}, and no attempt says so"
    elif deciding.round != row.round or deciding.outcome not in DECIDED_BY[row.status]:
        yield f"{row.status} by an attempt that {deciding.outcome} in round {deciding.round} of {row.round}"
    for attempt in story.attempts:
        if attempt.state != "ended":
            yield f"{row.status}, and attempt {attempt.no} is still {attempt.state}"


def waits_are_allowed(_: History, story: Story) -> Found:
    """Only a task that may be retried by itself waits for a retry."""
    if story.max_retries == 0 and any(seen.status == "pending" for seen in story.seen):
        yield "it waited for a retry, and none is allowed"


def rounds_are_asked_for(_: History, story: Story) -> Found:
    """Only a user's retry opens a round."""
    if story.row is None:
        return
    asked = story.asked_for("retry")
    least = 1 + sum(item.code == 200 for item in asked)
    most = 1 + sum(not item.refused for item in asked)
    if not least <= story.row.round <= most:
        yield f"round {story.row.round} after {least - 1} to {most - 1} retries"


def recorded_once(_: History, story: Story) -> Found:
    """In each round one attempt decides, and nothing comes after it."""
    for number in {item.round for item in story.attempts}:
        attempts = story.in_round(number)
        decisive = [item for item in attempts if item.outcome in (SUCCESS, CANCELLED)]
        failures = [item for item in attempts if item.reported and item.outcome in REPORTED_FAILURES]
        if decisive and decisive[0] is not attempts[-1]:
            later = [item.no for item in attempts if item.no > decisive[0].no]
            yield f"attempt {decisive[0].no} ended the round as {decisive[0].outcome}, and {later} came after"
        if len(failures) > story.max_retries + 1:
            yield f"{len(failures)} failures were recorded in one round, {story.max_retries} retries allowed"


def every_change_is_legal(history: History, story: Story) -> Found:
    """Each stored change is one the life cycle knows, and rounds begin only where an end is left."""
    number = 1
    for change in _of_task(history, story):
        opens = change.old in _ANY_END
        if change.new not in LEGAL[change.old] or change.round != number + opens:
            yield f"it went from {change.old or 'nothing'} to {change.new} in round {change.round}"
        number = change.round


def each_round_ends_once(history: History, story: Story) -> Found:
    """A terminal status is stored once for each round."""
    ends = Counter(change.round for change in _of_task(history, story) if change.new in _ANY_END)
    for number, times in ends.items():
        if times > 1:
            yield f"an end of round {number} was stored {times} times"


def _of_task(history: History, story: Story) -> list[Change]:
    return [change for change in history.changes if story.row is not None and change.id == story.row.id]


def ends_stay(_: History, story: Story) -> Found:
    """What a client saw ended stays so, to the digit, unless somebody asked for a retry."""
    for before, after in pairwise(story.seen):
        if before.is_terminal and after.ending != before.ending and not _retried(story, before, after):
            yield f"it changed after its end: {before.ending} became {after.ending}"
    last = story.seen[-1] if story.seen else None
    row = story.row
    if last and row and last.is_terminal and row.status != last.status and not _retried(story, last, None):
        yield f"it was seen as {last.status} and is stored as {row.status}"


def _retried(story: Story, before: Seen, after: Seen | None) -> bool:
    """Whether a retry may have come between two answers."""
    return any(
        not asked.refused
        and (after is None or asked.sent_at < after.answered_at)
        and (asked.answered_at is None or asked.answered_at > before.asked_at)
        for asked in story.asked_for("retry")
    )


def attempts_only_go_on(_: History, story: Story) -> Found:
    """No attempt disappears from an answer, and one whose outcome the device reported never changes."""
    for before, after in pairwise(story.seen):
        later = {attempt.no: attempt for attempt in after.attempts}
        for attempt in before.attempts:
            found = later.get(attempt.no)
            if found is None:
                yield f"attempt {attempt.no} disappeared"
            elif _is_final(attempt) and found.outcome != attempt.outcome:
                yield f"attempt {attempt.no} changed from {attempt.outcome} to {found.outcome or found.state}"


def _is_final(attempt: SeenAttempt) -> bool:
    """What was given up may yet be taken back when its device returns; everything else is over."""
    return attempt.state == "ended" and attempt.outcome not in GIVEN_UP


# --- I3: one right to report --------------------------------------------------------------------------------------


def one_live_attempt(history: History, story: Story) -> Found:
    """By every stored change, by the times in the rows, and by every answer: never two at once."""
    attempts = {attempt.id: attempt for attempt in story.attempts}
    for attempt, together in _live_at_each_offer(history, attempts):
        if len(together) > 1:
            yield f"attempt {attempt.no} was made while {len(together) - 1} other was live"
    ordered = sorted(story.attempts, key=lambda item: item.no)
    for earlier, later in pairwise(ordered):
        if earlier.ended_at is None or later.offered_at < earlier.ended_at - history.clock_s:
            yield f"attempts {earlier.no} and {later.no} were live together"
    for seen in story.seen:
        live = [attempt.no for attempt in seen.attempts if attempt.state != "ended"]
        if len(live) > 1:
            yield f"an answer shows attempts {live} live together"
        if live and seen.is_terminal:
            yield f"an answer shows {seen.status} with attempt {live[0]} still live"


def recorded_from_the_holder(_: History, story: Story) -> Found:
    """A recorded success is the work of the attempt that held the lease, and of this very task."""
    for attempt in story.attempts:
        if attempt.outcome != SUCCESS:
            continue
        result = _parsed(attempt.result)
        if story.expected is not None:
            if result != story.expected:
                yield f"the result is {attempt.result[:200]}, expected {json.dumps(story.expected)}"
        elif f"{story.nonce} {attempt.id}" not in str(_stdout(result)):
            yield f"the result of attempt {attempt.no} is another's: {attempt.result[:200]}"


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _stdout(result: object) -> object:
    return result.get("stdout") if isinstance(result, dict) else None


# --- I4: results arrive -------------------------------------------------------------------------------------------


def results_arrive(history: History, story: Story) -> Found:
    """What lay on a disk when its agent was killed was recorded, kept as evidence, or not wanted any more."""
    attempts = {attempt.id: attempt for attempt in story.attempts}
    for item in history.on_disk:
        attempt = attempts.get(item.attempt)
        if attempt is not None and not _has_arrived(attempt):
            yield f"the {item.outcome} of attempt {attempt.no} lay on {item.device} and never arrived"


def _has_arrived(attempt: StoredAttempt) -> bool:
    told_to_drop = attempt.confirmed and attempt.state == "ended"
    return attempt.reported or bool(attempt.late) or told_to_drop


# --- I5: nothing runs on a device that is gone --------------------------------------------------------------------


def nothing_runs_on_the_vanished(history: History, story: Story) -> Found:
    """Seconds after a device vanished nothing shows `running` on it."""
    for seen in story.seen:
        if seen.status != "running":
            continue
        for outage in history.outages:
            gone = outage.since < seen.asked_at and seen.answered_at < outage.until
            if outage.device != seen.device or not gone:
                continue
            late = seen.asked_at - outage.since - history.lease_s - SWEEP_S
            late -= RESTART_S if _disturbed(history, outage.since, seen.answered_at) else 0.0
            if late > 0:
                yield f"it shows running on {outage.device}, {late:.1f} s too long after its {outage.kind}"


def _disturbed(history: History, since: float, until: float) -> bool:
    return any(trouble.since < until and trouble.until > since for trouble in history.troubles)


# --- I6: cancelled is over ----------------------------------------------------------------------------------------


def cancelled_is_over(_: History, story: Story) -> Found:
    """Once a cancel is answered no attempt begins, and what a device confirmed to be over is over."""
    for cancel in story.asked_for("cancel"):
        if cancel.code == 200 and cancel.answered_at is not None:
            yield from _begun_after(story, cancel, cancel.answered_at)
    for attempt in story.attempts:
        confirmed = attempt.outcome == CANCELLED and attempt.reported and attempt.confirmed
        for run in _runs_of(story, attempt):
            if confirmed and run.last_sign > (attempt.ended_at or 0.0) + CLOCK_S:
                yield f"attempt {attempt.no} was confirmed as stopped, and pid {run.pid} went on"


def _begun_after(story: Story, cancel: Asked, moment: float) -> Found:
    # An attempt carries the time at which the gateway's transaction began: where that had to wait, a time from
    # before the retry that let it have the task. The round tells: none before the cancel can be higher.
    rounds = 1 + sum(retry.sent_at <= moment for retry in story.asked_for("retry"))
    for attempt in story.attempts:
        retried = any(
            cancel.sent_at < retry.sent_at <= attempt.offered_at for retry in story.asked_for("retry")
        )
        if attempt.offered_at > moment and not retried and attempt.round <= rounds:
            yield f"attempt {attempt.no} began {attempt.offered_at - moment:.3f} s after its cancel was stored"


def nothing_is_left(_: History, story: Story) -> Found:
    """When the episode is over nothing of it runs, wherever it was."""
    for run in story.executions:
        if run.is_alive:
            yield f"pid {run.pid} of attempt {run.attempt} still runs"


def _runs_of(story: Story, attempt: StoredAttempt) -> list[Execution]:
    return [run for run in story.executions if run.attempt == attempt.id]


# --- I7: time limits ----------------------------------------------------------------------------------------------


def time_limits_fire(history: History, story: Story) -> Found:
    """Work ends at its limit, measured where it ran; a device that was stopped meanwhile could not look."""
    allowed = story.timeout_s + max(1.0, 0.02 * story.timeout_s) + BUSY_S
    for attempt in story.attempts:
        for run in _runs_of(story, attempt):
            took = run.last_sign - run.started
            if took > allowed and not _frozen(history.outages, attempt.device, run):
                yield f"attempt {attempt.no} ran {took:.1f} s, its limit is {story.timeout_s:g} s"
        early = (
            attempt.reported
            and attempt.outcome == TIMEOUT
            and (attempt.ran_s or 0.0) < story.timeout_s - CLOCK_S
        )
        if early:
            yield f"attempt {attempt.no} timed out after {attempt.ran_s} s of {story.timeout_s:g} s"


def _frozen(outages: Iterable[Outage], device: str, run: Execution) -> bool:
    return any(
        outage.kind == "stop"
        and outage.device == device
        and outage.since < run.last_sign
        and outage.until > run.started
        for outage in outages
    )


# --- I8: capacity -------------------------------------------------------------------------------------------------


def overbooked(history: History) -> Found:
    """No reservation was made beyond what the device had free at that moment, by the changes in their order."""
    capacities = {capacity.device: capacity for capacity in history.capacities}
    attempts = {attempt.id: attempt for story in history.stories for attempt in story.attempts}
    for attempt, live in _live_at_each_offer(history, attempts):
        capacity = capacities[attempt.device]
        here = [attempts[item] for item in live if attempts[item].device == attempt.device]
        slots, memory = sum(item.slots for item in here), sum(item.memory_mb for item in here)
        if slots > capacity.slots or memory > capacity.memory_mb:
            held = f"{slots} of {capacity.slots} slots and {memory} of {capacity.memory_mb} MB"
            yield f"{capacity.device} had reserved {held} with attempt {attempt.id}"


def _live_at_each_offer(
    history: History, attempts: Mapping[str, StoredAttempt]
) -> Iterator[tuple[StoredAttempt, set[str]]]:
    """Each attempt as it is made, and all that are live then, itself among them."""
    live: set[str] = set()
    for change in history.changes:
        if change.id not in attempts:
            continue
        if change.new == "ended":
            live.discard(change.id)
        else:
            live.add(change.id)
        if not change.old:
            yield attempts[change.id], live


# --- at most once -------------------------------------------------------------------------------------------------


def attempts_start_once(_: History, story: Story) -> Found:
    """A lease token is started at most once, whatever is repeated or restarted."""
    for attempt in story.attempts:
        runs = _runs_of(story, attempt)
        if len(runs) > 1:
            yield f"attempt {attempt.no} was started {len(runs)} times"
    known = {attempt.id for attempt in story.attempts}
    for run in story.executions:
        if run.attempt not in known:
            yield f"pid {run.pid} ran for an attempt nobody gave: {run.attempt}"


def at_most_once(_: History, story: Story) -> Found:
    """Work that must not happen twice happened once for each failure its device itself reported, and once more."""
    if not story.at_most_once:
        return
    for number in {item.round for item in story.attempts}:
        attempts = story.in_round(number)
        runs = sum(len(_runs_of(story, attempt)) for attempt in attempts)
        failures = sum(item.reported and item.outcome in REPORTED_FAILURES for item in attempts[:-1])
        if runs > 1 + failures:
            yield f"it was executed {runs} times in round {number}"


JUDGES: dict[str, tuple[Judge, ...]] = {
    "I1": (accepted_is_kept,),
    "I2": (
        every_task_ends,
        every_change_is_legal,
        waits_are_allowed,
        rounds_are_asked_for,
        attempts_only_go_on,
    ),
    "recorded twice": (recorded_once, each_round_ends_once, ends_stay),
    "I3": (one_live_attempt, recorded_from_the_holder),
    "I4": (results_arrive,),
    "I5": (nothing_runs_on_the_vanished,),
    "I6": (cancelled_is_over, nothing_is_left),
    "I7": (time_limits_fire,),
    "I11": (one_key_one_task,),
    "at most once": (attempts_start_once, at_most_once),
    "answers": (answers_are_expected,),
}


# --- what is allowed, and counted ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """What a history amounts to."""

    tasks: int
    attempts: int
    executions: int
    duplicate_executions: int
    late_results: int


def count(history: History) -> Counts:
    """Sizes, and the executions that at-least-once allows: more than one in a round, failures not counted."""
    stories = history.stories
    return Counts(
        tasks=sum(story.row is not None for story in stories),
        attempts=sum(len(story.attempts) for story in stories),
        executions=sum(len(story.executions) for story in stories),
        duplicate_executions=sum(_duplicates(story) for story in stories),
        late_results=sum(bool(attempt.late) for story in stories for attempt in story.attempts),
    )


def _duplicates(story: Story) -> int:
    total = 0
    for number in {item.round for item in story.attempts}:
        attempts = story.in_round(number)
        runs = sum(bool(_runs_of(story, attempt)) for attempt in attempts)
        failures = sum(item.reported and item.outcome in REPORTED_FAILURES for item in attempts[:-1])
        total += max(0, runs - 1 - failures)
    return total
