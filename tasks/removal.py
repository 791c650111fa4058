"""What becomes of the work of a device that leaves for good."""

from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from retire_cluster import hints
from tasks import bridge, rules, waiting
from tasks.lifecycle import Ledger


def release(sender: object, *, device_id: str, reason: str, now: datetime, **_: Any) -> None:
    """Put the device's live attempts back into the queue; receiver of devices.signals.leaving.

    What is being cancelled is cancelled then, and what must not run twice fails: the device cannot be asked.
    """
    ledger = Ledger(now)
    ledger.load_live_of([device_id])
    for task, attempt in ledger.pairs_of(device_id).values():
        step = give_back(task, attempt, reason=reason, now=now)
        if step is not None:
            ledger.put(step)
    ledger.flush()
    transaction.on_commit(partial(_announce, ledger))


def give_back(
    task: rules.TaskRow, attempt: rules.AttemptRow, *, reason: str, now: datetime
) -> rules.Step | None:
    """One live attempt of a device that is gone for good, free of charge where it may run again."""
    free = rules.withdraw(task, attempt, reason=reason, now=now)
    # The limit of losses does not matter: only what cannot be requeued comes so far.
    return free or rules.lose(task, attempt, reason=reason, now=now, max_losses=0)


def _announce(ledger: Ledger) -> None:
    waiting.ended(ledger.finished)
    hints.notify()
    bridge.request_dispatch()
