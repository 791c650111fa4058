"""Asks Celery for the job `dispatch`, coalesced and never in the way of a request.

A request only sets a flag; one background thread sends, once a second at most. A lost message costs a second, and a
broker that hangs costs a request nothing.
"""

import logging
import threading
import time
from functools import cache

from django.conf import settings

logger = logging.getLogger("retire_cluster.bridge")

FLAG_S = 1.0  # between two of a process: a run looks at every device
BREAK_S = 5.0  # pause after a broker that did not answer

local_worker = False  # set by a launcher that runs a Celery worker in this process
_guard = threading.Lock()
_asked_at = float("-inf")


def request_dispatch() -> None:
    """Have `dispatch` run soon, once a second at most. Returns at once."""
    global _asked_at
    if not settings.BROKER_URL:
        return  # a worker in this process has the gateway beside it, which the hint has woken; others hear nothing
    with _guard:
        if time.monotonic() - _asked_at < FLAG_S:
            return
        _asked_at = time.monotonic()
    _sender().wake.set()


class _Sender(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="retire-cluster-bridge", daemon=True)
        self.wake = threading.Event()

    def run(self) -> None:
        from tasks.jobs import dispatch

        while True:
            self.wake.wait()
            self.wake.clear()
            try:
                # expiration is RabbitMQ's own; the stubs leave out what goes with the message.
                dispatch.apply_async(expires=30, expiration=30, retry=False)  # type: ignore[call-arg]
            except Exception as error:
                # Whatever the broker's library raises: the sweep finds the work without Celery.
                logger.warning("Celery's broker does not answer: %s", error, extra={"action": "dispatch"})
                time.sleep(BREAK_S)


@cache
def _sender() -> _Sender:
    sender = _Sender()
    sender.start()
    return sender
