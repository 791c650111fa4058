"""When a device takes no new task, by its owner's limits: low battery, heat. Pure: no I/O, no clock.

Each limit has hysteresis, so that a reading at the edge does not switch it to and fro. What is unknown decides
nothing: a limit neither pauses nor resumes by it. Only a sensor that stays silent for long ends its own pause, for
else a device whose sensor broke would stay out of service for good, with a reason nobody can check any more.
"""

from dataclasses import dataclass

from retire_cluster.protocol.messages import Metrics

RESUME_PERCENT = 5  # of battery above the limit
RESUME_C = 5.0  # below the limit
# Longer than the ten minutes after which Termux' tool is asked again when it failed once.
FORGET_S = 900.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The owner's limits; None: there is none."""

    battery_percent: int | None = None
    celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A limit in force since the reading in `reason`; `seen_at` is when the sensor last told anything."""

    reason: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Which limits are in force."""

    battery: Hold | None = None
    heat: Hold | None = None

    @property
    def reason(self) -> str | None:
        """Why no new task is taken, with the readings that began it; None while all is well."""
        return "; ".join(hold.reason for hold in (self.battery, self.heat) if hold) or None


def judge(limits: Limits, before: Pause, metrics: Metrics, now: float) -> Pause:
    """Which limits are in force after a look at the sensors at `now` (seconds, never going back)."""
    return Pause(
        _battery(limits.battery_percent, before.battery, metrics, now),
        _heat(limits.celsius, before.heat, metrics.temperature_c, now),
    )


def _battery(limit: int | None, before: Hold | None, metrics: Metrics, now: float) -> Hold | None:
    if limit is None:
        return None
    percent, charging = metrics.battery_percent, metrics.charging
    if percent is None and charging is not True:
        return _silent(before, now)
    low = charging is False and percent is not None and percent <= limit
    enough = percent is not None and percent >= min(100, limit + RESUME_PERCENT)
    until = "when charging" if limit == 100 else f"at {min(100, limit + RESUME_PERCENT)} % or when charging"
    words = f"battery at {percent or 0:.0f} %, limit {limit} %; resumes {until}"
    return _next(before, low, charging is True or enough, words, now)


def _heat(limit: float | None, before: Hold | None, degrees: float | None, now: float) -> Hold | None:
    if limit is None:
        return None
    if degrees is None:
        return _silent(before, now)
    words = f"temperature {degrees:.0f} °C, limit {limit:g} °C; resumes at {limit - RESUME_C:g} °C"
    return _next(before, degrees >= limit, degrees <= limit - RESUME_C, words, now)


def _next(before: Hold | None, beyond: bool, over: bool, words: str, now: float) -> Hold | None:
    """The reason keeps its first reading: words that change with each look would be news to the whole cluster."""
    if before is None:
        return Hold(words, now) if beyond else None
    return None if over and not beyond else Hold(before.reason, now)


def _silent(before: Hold | None, now: float) -> Hold | None:
    return before if before is not None and now - before.seen_at < FORGET_S else None
