"""Celery's jobs: they make good what a lost hint or a dead process left behind, and tidy up; none is vital."""

import logging
import time
from datetime import datetime

from celery import shared_task

from retire_cluster import db, hints
from tasks import retention, sweep

MAX_JUMP_S = 3600.0

logger = logging.getLogger("retire_cluster.jobs")
_epoch = time.time() - time.monotonic()  # when monotonic time began, by the clock this process last believed


@shared_task(name="tasks.dispatch", ignore_result=True)
def dispatch() -> int:
    """Wake the gateways when queued tasks meet free devices. Returns the number of tasks that could start."""
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
    """Delete history that is older than `retention` wants it. Returns the rows deleted, by kind.

    Not right after the clock has jumped: what it says now may be wrong by years, and what is deleted stays so.
    """
    now = db.now()
    return {} if _has_jumped(now) else retention.run(now)


def _has_jumped(now: datetime) -> bool:
    """Whether the clock has jumped since this was last asked, or since the process began."""
    global _epoch
    believed, _epoch = _epoch, now.timestamp() - time.monotonic()
    jump = _epoch - believed
    if abs(jump) <= MAX_JUMP_S:
        return False
    logger.warning(
        "the clock has jumped by %.0f hours: nothing old is deleted this time",
        jump / 3600,
        extra={"action": "retention"},
    )
    return True
