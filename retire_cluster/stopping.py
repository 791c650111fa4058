"""A server that is told to stop lets its long-polls go: `?wait=` then answers with the state as it is."""

import signal
import threading
from types import FrameType

from retire_cluster import waiters


def release_waiters_on_signal() -> None:
    """Add it to what a server that is not ours does on SIGTERM and SIGINT. Called once it has set its handlers."""
    if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
        for number in (signal.SIGTERM, signal.SIGINT):
            _add_to_handler(number)


def _add_to_handler(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    if not callable(before) or before is signal.default_int_handler:
        return  # nobody stops in order here: the process just ends

    def handle(signum: int, frame: FrameType | None) -> None:
        # In a thread: the code that the signal interrupts may hold a lock that is needed.
        threading.Thread(target=waiters.release_all, name="release-waiters", daemon=True).start()
        before(signum, frame)

    signal.signal(number, handle)
