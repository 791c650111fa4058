"""What devices measured, for charts: quarters of an hour in memory, then rows, then an answer of the API."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from devices import presence, samples, serializers
from devices.models import Device, MetricsSample
from devices.samples import HOUR, QUARTER
from retire_cluster.protocol import messages as wire
from tests.factories import make_device
from tests.integration.gateway.cluster import Cluster

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPAN = HOUR if connection.vendor == "sqlite" else QUARTER  # what is written at once


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    samples.forget()
    yield
    samples.forget()


def note(device: Device, minutes: float, cpu: float | None = None, *, running: int = 0, **more: Any) -> None:
    metrics = {"cpu_percent": cpu, **more}
    samples.note(device.pk, metrics, running=running, now=NOON + timedelta(minutes=minutes))


def shown(device: Device, *, hours: int = 1, until: datetime = NOON + HOUR) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = serializers.device_metrics(device, hours=hours, now=until)["samples"]
    return found


def test_a_quarter_shows_lowest_mean_and_highest() -> None:
    device = make_device()
    for minutes, cpu in ((0, 10.0), (7, 40.0), (14.9, 70.0), (15, 5.0)):
        note(device, minutes, cpu, running=int(cpu > 50), temperature_c=-3.5)

    first, second = shown(device)

    assert first == {
        "timestamp": NOON,
        "heartbeats": 3,
        "cpu_percent": {"min": 10.0, "avg": 40.0, "max": 70.0},
        "memory_percent": None,
        "battery_percent": None,
        "temperature": {"min": -3.5, "avg": -3.5, "max": -3.5},
        "running_tasks": {"min": 0.0, "avg": 0.33, "max": 1.0},
    }
    assert (second["timestamp"], second["heartbeats"]) == (NOON + QUARTER, 1)


def test_nothing_is_written_before_the_time_is_over_and_then_all_devices_at_once() -> None:
    devices = [make_device() for _ in range(3)]
    for device in devices:
        for minutes in (0, 20, 40):
            note(device, minutes, 50.0)

    assert samples.flush(NOON + timedelta(minutes=14)) == 0
    before = samples.flush(NOON + timedelta(minutes=59))
    assert before == (0 if SPAN == HOUR else 9)
    assert before + samples.flush(NOON + HOUR) == MetricsSample.objects.count() == 9
    assert samples.flush(NOON + 2 * HOUR) == 0


def test_an_hour_of_all_devices_is_one_transaction_of_few_statements() -> None:
    for device in [make_device() for _ in range(50)]:
        for minutes in (0, 15, 30, 45):
            note(device, minutes, 50.0)

    with CaptureQueriesContext(connection) as queries:
        assert samples.flush(NOON + HOUR) == 200

    statements = [query["sql"].split()[0] for query in queries]
    assert statements.count("BEGIN") <= 1
    assert len(statements) <= 4, statements  # SQLite takes some hundred values in one


def test_two_gateways_parts_of_a_quarter_are_put_together_by_weight() -> None:
    device = make_device()
    for minutes, cpu in ((0, 10.0), (1, 20.0), (2, 30.0)):
        note(device, minutes, cpu)
    samples.flush(NOON, unfinished=True)
    note(device, 10, 100.0, battery_percent=80.0)
    samples.flush(NOON, unfinished=True)
    note(device, 12, 40.0)

    (quarter,) = shown(device)

    assert MetricsSample.objects.count() == 2
    assert quarter["heartbeats"] == 5
    assert quarter["cpu_percent"] == {"min": 10.0, "avg": 40.0, "max": 100.0}
    assert quarter["battery_percent"] == {"min": 80.0, "avg": 80.0, "max": 80.0}


def test_only_the_device_and_the_hours_asked_for_are_shown() -> None:
    device, other = make_device(), make_device()
    for hours in range(5):
        note(device, 60 * hours, float(hours))
    note(other, 61, 99.0)
    samples.flush(NOON + 3 * HOUR)
    answer = shown(device, hours=3, until=NOON + 5 * HOUR)

    assert [quarter["cpu_percent"]["avg"] for quarter in answer] == [2.0, 3.0, 4.0]
    assert [quarter["timestamp"] for quarter in answer] == [NOON + hour * HOUR for hour in (2, 3, 4)]


def test_a_write_that_fails_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device()
    note(device, 0, 10.0)
    with monkeypatch.context() as broken:
        broken.setattr(MetricsSample.objects, "bulk_create", _away)
        with pytest.raises(OperationalError):
            samples.flush(NOON + HOUR)
    assert [quarter["heartbeats"] for quarter in shown(device)] == [1]

    assert samples.flush(NOON + HOUR) == 1
    assert [quarter["heartbeats"] for quarter in shown(device)] == [1]


def _away(*_: object, **__: object) -> None:
    raise OperationalError("the database is away")


def test_a_gateway_outlives_a_database_that_is_away_at_the_moment_of_writing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(presence, "flush", _away)
    cluster.committer._next_flush = 0.0

    cluster.committer._after_tick()

    assert "signs of life cannot be written: the database is away" in caplog.text


def test_heartbeats_become_samples_and_the_end_of_a_gateway_writes_them() -> None:
    cluster = Cluster()
    link = cluster.join("meter")
    for cpu in (20.0, 60.0):
        cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=cpu, memory_percent=50.0)))
    assert not MetricsSample.objects.exists()

    cluster.committer.stop()
    cluster.committer.run()

    row = MetricsSample.objects.get(device_id="meter")
    assert row.heartbeats == 2
    assert row.values["cpu_percent"] == [20.0, 40.0, 60.0, 2]
    assert row.values["running_tasks"] == [0.0, 0.0, 0.0, 2]


@pytest.mark.parametrize("clock", [timedelta(days=-3650), timedelta(days=3650)])
def test_a_clock_that_jumps_loses_nothing(clock: timedelta) -> None:
    device = make_device()
    note(device, 0, 10.0)
    samples.note(device.pk, {"cpu_percent": 20.0}, running=0, now=NOON + clock)
    note(device, 1, 30.0)
    samples.flush(NOON, unfinished=True)

    assert shown(device)[0]["heartbeats"] == 2
    assert len(shown(device, until=NOON + clock + HOUR)) == 1
