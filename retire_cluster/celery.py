"""The Celery app. Correctness never hangs on it: its jobs only make good what a lost hint left behind."""

import os
import sys
from typing import Any

from celery import Celery
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
