"""Celery's jobs. Each makes good what a lost hint or a dead process left behind; none is needed for correctness."""

from celery import shared_task

from retire_cluster import hints
from tasks import bridge, sweep


@shared_task(name="tasks.dispatch", ignore_result=True)
def dispatch() -> int:
    """Wake the gateways when queued tasks meet free devices. Returns the number of tasks that could start."""
    bridge.dispatch_begins()
    waiting = sweep.placeable()
    if waiting:
        hints.notify()
    return waiting


@shared_task(name="tasks.sweep", ignore_result=True)
def sweep_expired() -> int:
    """Judge expired leases and finished back-offs, as every gateway does too. Returns the changes made."""
    return sweep.run_elsewhere()
