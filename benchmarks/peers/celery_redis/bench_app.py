"""The Celery application: Redis carries the tasks, another database of it keeps the results."""

import os

from celery import Celery

app = Celery("bench_app", broker=f"{os.environ['BENCH_REDIS']}/0", backend=f"{os.environ['BENCH_REDIS']}/1")
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop(number: int) -> int:
    return number
