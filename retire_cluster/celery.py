"""The Celery app. Correctness never hangs on it: its jobs only make good what a lost hint left behind."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from celery import Celery
from celery.beat import Service
from celery.signals import beat_init, celeryd_init

from retire_cluster.postgres import waits

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")

app = Celery("retire_cluster")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="jobs")


@celeryd_init.connect
@beat_init.connect
def begin(**_: Any) -> None:
    """A worker or beat starts. One of its own on an in-memory broker would wait for ever: nobody can reach it."""
    from tasks import bridge

    waits.limit()
    if app.conf.broker_url == "memory://" and not bridge.local_worker:
        print(
            "celery: no broker is configured; set RETIRE_CLUSTER_BROKER_URL or RETIRE_CLUSTER_REDIS_URL "
            "(retire-cluster-api and retire-cluster-main bring a worker of their own and need none)",
            file=sys.stderr,
        )
        raise SystemExit(2)


@beat_init.connect
def let_beat_stop(sender: Service, **_: Any) -> None:
    """SIGTERM and Ctrl-C end a beat of its own at once, whatever it is doing and however its broker is.

    Celery's handler says goodbye to the broker from within what it interrupted. If that was sending, it waits for
    ever for amqp's lock, which the interrupted code holds; and a frozen broker never says goodbye.
    """
    from tasks import bridge

    if bridge.local_worker:  # a thread of a server, which ends it
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        # What it would say goodbye on; the broker notices when the process ends.
        vars(sender.scheduler).pop("connection", None)
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
