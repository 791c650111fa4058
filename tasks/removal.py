"""What becomes of the work of a device that leaves for good, or that an operator gives up."""

from collections import Counter
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from clusterconfig import audit
from clusterconfig.audit import Actor
from devices import services as devices
from devices.models import Device
from retire_cluster import db, hints
from tasks import bridge, rules, waiting
from tasks.lifecycle import Ledger


def release(sender: object, *, device_id: str, reason: str, now: datetime, **_: Any) -> None:
    """Put the device's live attempts back into the queue; receiver of devices.signals.leaving.

    What is being cancelled is cancelled then, and what must not run twice fails: the device cannot be asked.
    """
    _give_all_back(device_id, reason=reason, now=now)


class StillConnected(Exception):
    """The device can be asked to stop, so nobody but its gateway takes its work away."""

    def __init__(self, device_id: str) -> None:
        super().__init__(
            f"{device_id} is connected: --drain has its gateway stop and requeue its work; if no gateway runs, "
            "start one, and it finds out by itself"
        )


def requeue(device_id: str, *, actor: Actor) -> dict[str, int]:
    """Give up what a disconnected device holds. Returns how many tasks are in which state then.

    Raises Device.DoesNotExist and StillConnected; nothing is changed then.
    """
    with db.write_transaction():
        now = db.now()
        tasks = _give_all_back(device_id, reason="an operator gave the device up", now=now)
        # After the tasks, as everybody locks: from here on it cannot connect before this is committed.
        device = Device.objects.members().select_for_update().get(id=device_id)
        if devices.is_connected(device, now=now):
            raise StillConnected(device_id)
        counts = Counter(task.status.value for task in tasks)
        if counts:
            audit.record("device.requeue", device_id, actor=actor, now=now, details=counts)
    return dict(counts)


def _give_all_back(device_id: str, *, reason: str, now: datetime) -> list[rules.TaskRow]:
    """End the device's live attempts, in this transaction; returns the tasks as they are then."""
    ledger = Ledger(now)
    ledger.load_live_of([device_id])
    for task, attempt in ledger.pairs_of(device_id).values():
        step = give_back(task, attempt, reason=reason, now=now)
        if step is not None:
            ledger.put(step)
    changed = ledger.changed_tasks()
    ledger.flush()
    transaction.on_commit(partial(_announce, ledger))
    return changed


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
