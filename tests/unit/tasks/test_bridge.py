"""When Celery is asked for a dispatch: seldom, and only where that reaches somebody who was not told."""

from collections.abc import Callable

import pytest
from django.conf import LazySettings

from tasks import bridge


class Wake:
    times = 0

    def set(self) -> None:
        self.times += 1


class Sender:
    def __init__(self) -> None:
        self.wake = Wake()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], int]:
    """Ask at this moment; how often the sender was woken until then."""
    sender, now = Sender(), [0.0]
    monkeypatch.setattr(bridge, "_sender", lambda: sender)
    monkeypatch.setattr(bridge, "_asked_at", float("-inf"))
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def ask(moment: float) -> int:
        now[0] = moment
        bridge.request_dispatch()
        return sender.wake.times

    return ask


def test_a_broker_is_asked_once_a_second_at_most(
    asked: Callable[[float], int], settings: LazySettings
) -> None:
    settings.BROKER_URL = "redis://127.0.0.1:1"
    assert [asked(moment) for moment in (100.0, 100.0, 100.5, 100.99, 101.0, 101.5, 109.0)] == [
        *(1, 1, 1, 1, 2, 2, 3)
    ]


@pytest.mark.parametrize("local_worker", [False, True])
def test_without_a_broker_nobody_is_asked(
    asked: Callable[[float], int],
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    local_worker: bool,
) -> None:
    """A worker of this process has the gateway beside it. To look at every device for each submit slowed both."""
    monkeypatch.setattr(bridge, "local_worker", local_worker)
    settings.BROKER_URL = ""
    assert asked(100.0) == 0
