from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.agent.policy import FORGET_S, Limits, Pause, judge
from retire_cluster.protocol.messages import Metrics

percents = st.none() | st.floats(0, 100)
degrees = st.none() | st.floats(-20, 130)
readings = st.builds(
    Metrics, battery_percent=percents, charging=st.none() | st.booleans(), temperature_c=degrees
)
limit_pairs = st.builds(
    Limits,
    battery_percent=st.none() | st.integers(1, 100),
    celsius=st.none() | st.floats(20, 120),
)
lives = st.lists(st.tuples(readings, st.floats(0, 120)), max_size=30)

BATTERY = Limits(battery_percent=20)
HEAT = Limits(celsius=75)


def on_battery(percent: float | None) -> Metrics:
    return Metrics(battery_percent=percent, charging=False)


def at(celsius: float | None) -> Metrics:
    return Metrics(temperature_c=celsius)


def follow(limits: Limits, *seen: Metrics) -> list[bool]:
    """Whether the device is paused after each of the readings, half a minute apart."""
    pause, found = Pause(), []
    for number, metrics in enumerate(seen):
        pause = judge(limits, pause, metrics, 30.0 * number)
        found.append(pause.reason is not None)
    return found


def test_low_battery_pauses_until_there_is_some_more() -> None:
    seen = (on_battery(percent) for percent in (21, 20, 15, 21, 24.9, 25, 21))
    assert follow(BATTERY, *seen) == [False, True, True, True, True, False, False]


def test_a_charger_ends_the_pause_at_once_and_none_begins_on_it() -> None:
    charging = Metrics(battery_percent=3, charging=True)
    assert follow(BATTERY, charging, on_battery(3), charging) == [False, True, False]


def test_heat_pauses_until_it_is_clearly_cooler() -> None:
    assert follow(HEAT, *map(at, (74.9, 75, 70.1, 70, 74.9))) == [False, True, True, False, False]


def test_a_limit_of_all_the_battery_means_to_work_plugged_in_only() -> None:
    limits = Limits(battery_percent=100)
    assert follow(limits, on_battery(100), on_battery(100), Metrics(charging=True)) == [True, True, False]
    assert judge(limits, Pause(), on_battery(100), 0).reason == (
        "battery at 100 %, limit 100 %; resumes when charging"
    )


def test_the_reasons_say_reading_limit_and_when_it_ends() -> None:
    both = judge(Limits(20, 75), Pause(), Metrics(battery_percent=15, charging=False, temperature_c=81.2), 0)
    assert both.reason == (
        "battery at 15 %, limit 20 %; resumes at 25 % or when charging; "
        "temperature 81 °C, limit 75 °C; resumes at 70 °C"
    )


def test_the_words_stay_while_the_readings_move() -> None:
    first = judge(HEAT, Pause(), at(81), 0)
    assert judge(HEAT, first, at(77), 30).reason == first.reason


@pytest.mark.parametrize(("limits", "beyond"), [(BATTERY, on_battery(10)), (HEAT, at(90))])
def test_a_sensor_that_falls_silent_ends_its_pause_only_after_long(limits: Limits, beyond: Metrics) -> None:
    paused = judge(limits, Pause(), beyond, 0)
    still = judge(limits, paused, Metrics(), FORGET_S - 1)
    assert still == paused
    assert judge(limits, still, Metrics(), FORGET_S).reason is None
    seen_again = judge(limits, still, beyond, FORGET_S - 0.5)
    assert judge(limits, seen_again, Metrics(), FORGET_S + 60).reason is not None


@given(limit_pairs, lives)
def test_a_pause_begins_only_beyond_a_limit_and_ends_only_within(
    limits: Limits, life: list[tuple[Metrics, float]]
) -> None:
    pause, now = Pause(), 0.0
    for metrics, later in life:
        before, now = pause, now + later
        pause = judge(limits, before, metrics, now)
        percent, celsius = metrics.battery_percent, metrics.temperature_c
        if pause.battery and not before.battery:
            assert limits.battery_percent is not None
            assert metrics.charging is False
            assert percent is not None
            assert percent <= limits.battery_percent
        if before.battery and not pause.battery and now - before.battery.seen_at < FORGET_S:
            assert limits.battery_percent is not None
            assert metrics.charging or (percent or 0) >= min(100, limits.battery_percent + 5)
        if pause.heat and not before.heat:
            assert (limits.celsius or 999) <= (celsius if celsius is not None else -999)
        if before.heat and not pause.heat and now - before.heat.seen_at < FORGET_S:
            assert celsius is not None
            assert celsius <= (limits.celsius or 0) - 5


@given(limit_pairs, lives, readings)
def test_a_reading_that_stays_never_switches_twice(
    limits: Limits, life: list[tuple[Metrics, float]], metrics: Metrics
) -> None:
    pause, now = Pause(), 0.0
    for earlier, later in life:
        now += later
        pause = judge(limits, pause, earlier, now)
    once = judge(limits, pause, metrics, now)
    twice = judge(limits, once, metrics, now + 30)
    known = metrics.temperature_c is not None and metrics.battery_percent is not None
    assert (once.reason == twice.reason) or not known


@given(limit_pairs, readings)
def test_what_is_unknown_pauses_nobody(limits: Limits, metrics: Metrics) -> None:
    blind = replace(metrics, battery_percent=None, temperature_c=None)
    assert judge(limits, Pause(), blind, 0).reason is None
    assert judge(limits, Pause(), replace(blind, battery_percent=1.0, charging=None), 0).reason is None


@given(readings, lives)
def test_without_limits_nothing_ever_pauses(metrics: Metrics, life: list[tuple[Metrics, float]]) -> None:
    assert not any(follow(Limits(), metrics, *(seen for seen, _ in life)))
