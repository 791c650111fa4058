"""Celery's jobs: they make good what a lost hint or a dead process left behind, and tidy up; none is vital."""

from celery import shared_task

from retire_cluster import db, hints
from tasks import bridge, retention, sweep


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


@shared_task(name="tasks.retention", ignore_result=True)
def delete_old() -> dict[str, int]:
    """Delete history that is older than `retention` wants it. Returns the rows deleted, by kind."""
    return retention.run(db.now())
