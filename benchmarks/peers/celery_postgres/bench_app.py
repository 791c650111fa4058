"""The Celery application: Redis carries the tasks, PostgreSQL keeps the results."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
app = Celery("bench_app")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="noop")
def noop(number: int) -> int:
    return number
