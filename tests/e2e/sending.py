"""A beat that sends for ever, with what it sends on locked as amqp locks its buffer."""

import threading
import time
from functools import cached_property
from typing import Any

from celery.beat import PersistentScheduler
from kombu import Connection

SENDS = "beat is sending"
_sending = threading.Lock()  # it lets no thread in twice, just as amqp's


class _Connection(Connection):
    """Its goodbye is sent too."""

    def release(self) -> None:
        with _sending:
            pass


class Sending(PersistentScheduler):
    @cached_property
    def connection(self) -> Connection:
        return _Connection("memory://")

    def tick(self, *_: Any, **__: Any) -> float:
        assert self.connection  # which is kept from now on
        with _sending:
            print(SENDS, flush=True)
            while True:
                time.sleep(60)
