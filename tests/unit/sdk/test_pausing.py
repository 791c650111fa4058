"""How long to wait before the next try: longer each time, never in step, and as long as the server asks."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.sdk.pausing import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    LONGEST_RETRY_AFTER_S,
    Retries,
    retry_after,
)

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)


def least(low: float, high: float) -> float:
    return low


def most(low: float, high: float) -> float:
    return high


@given(tries=st.integers(1, 10_000), limit=st.integers(0, 10_000))
def test_the_pause_doubles_to_a_limit_and_is_spread_over_its_second_half(tries: int, limit: int) -> None:
    low, high = Retries(limit, least).pause(tries), Retries(limit, most).pause(tries)
    if tries > limit:
        assert low is high is None
    else:
        assert high == min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 100))
        assert low == pytest.approx(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 100)) / 2)


@given(st.floats(0, LONGEST_RETRY_AFTER_S))
def test_nobody_comes_back_before_the_server_asks(wanted: float) -> None:
    assert Retries(1, least).pause(1, wanted) == wanted
    assert Retries(1, most).pause(1, wanted) == wanted + FIRST_PAUSE_S


def test_who_is_told_to_wait_for_long_gives_up() -> None:
    assert Retries(5).pause(1, LONGEST_RETRY_AFTER_S + 1) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("12", NOW) == 12
    assert retry_after(format_datetime(NOW + timedelta(seconds=30), usegmt=True), NOW) == 30
    assert retry_after(format_datetime(NOW - timedelta(seconds=30), usegmt=True), NOW) == 0


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1.5", "٣", "Sat, 28 Nov 2026 10:00:00"])
def test_a_retry_after_of_no_sense_is_none(text: str | None) -> None:
    assert retry_after(text, NOW) is None


@given(st.text())
def test_no_retry_after_is_an_error(text: str) -> None:
    found = retry_after(text, NOW)
    assert found is None or found >= 0
