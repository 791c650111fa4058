"""The window over the last minute's requests."""

import pytest

from retire_cluster.api.traffic import Traffic, Window


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> Window:
    return Window(clock)


def test_nothing_is_no_rate(window: Window) -> None:
    assert window.measure() == Traffic(0.0, 0.0)


def test_a_young_process_counts_over_its_life(clock: Clock, window: Window) -> None:
    for status in (200, 404, 500, 503):
        window.note(status)
    clock.now += 2

    assert window.measure() == Traffic(request_rate=2.0, error_rate=50.0)


def test_what_is_older_than_a_minute_is_forgotten(clock: Clock, window: Window) -> None:
    for _ in range(60):
        window.note(500)
    clock.now += 30
    for _ in range(30):
        window.note(200)
    clock.now += 31

    assert window.measure() == Traffic(request_rate=0.5, error_rate=0.0)


def test_it_keeps_no_more_than_a_minute(clock: Clock, window: Window) -> None:
    for _ in range(500):
        window.note(200)
        clock.now += 1

    assert len(window._seconds) <= 61
