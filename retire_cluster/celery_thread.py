"""Celery's worker and beat inside a server process. The one place that knows how to run them so."""

import logging
import threading
from collections.abc import Callable

from celery.beat import EmbeddedService, Scheduler
from celery.contrib.testing.worker import start_worker

from retire_cluster.celery import app
from tasks import bridge

logger = logging.getLogger("retire_cluster.celery")


class CeleryThread(threading.Thread):
    """A worker on the in-memory broker, and beat beside it. `died` is called should either end by itself."""

    def __init__(self, died: Callable[[BaseException], None]) -> None:
        super().__init__(name="retire-cluster-celery", daemon=True)
        self._died = died
        self._stop_asked = threading.Event()
        self.ready = threading.Event()

    def stop(self) -> None:
        self._stop_asked.set()

    def run(self) -> None:
        # No schedule file: what beat does is the same at every start.
        beat = EmbeddedService(app, max_interval=1, thread=True, scheduler_cls=Scheduler)
        assert isinstance(beat, threading.Thread)
        try:
            bridge.local_worker = True
            with start_worker(
                app, pool="solo", perform_ping_check=False, shutdown_timeout=3, loglevel="ERROR"
            ):
                beat.start()
                self.ready.set()
                while not self._stop_asked.wait(1):
                    if not beat.is_alive():
                        self._died(RuntimeError("Celery beat ended"))
                        return
                beat.stop()
        except Exception as error:
            if not self._stop_asked.is_set():
                self._died(error)
        finally:
            bridge.local_worker = False
