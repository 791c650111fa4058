"""Celery with Redis for broker and results, as its guide starts it; tasks are acknowledged late."""

import os
import time

from celery import Celery

app = Celery("edge", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)


@app.task(name="echo")
def echo(value):
    return value


@app.task(name="witness")
def witness(path, seconds):
    """Write down that it runs, then work."""
    with open(path, "a") as file:
        file.write(f"{time.time()}\n")
    time.sleep(seconds)
    return seconds
