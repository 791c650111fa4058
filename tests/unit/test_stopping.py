"""A signal to stop lets those go who wait, and then does what it did before."""

import signal
import threading
from collections.abc import Iterator

import pytest

from retire_cluster import stopping, waiters

DEADLINE_S = 10


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    event = threading.Event()
    monkeypatch.setattr(waiters, "release_all", event.set)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield event
    for number, handler in before.items():
        signal.signal(number, handler)


def test_waiters_are_released_and_the_server_still_hears_the_signal(released: threading.Event) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    stopping.release_waiters_on_signal()
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert released.wait(DEADLINE_S)


def test_a_process_that_ends_at_once_is_left_alone(released: threading.Event) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopping.release_waiters_on_signal()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_sets_no_handler(released: threading.Event) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stopping.release_waiters_on_signal)
    thread.start()
    thread.join(DEADLINE_S)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not released.is_set()
