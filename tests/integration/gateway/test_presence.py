"""The history of metrics: in memory where the gateway runs, in the table on Postgres only."""

from datetime import timedelta

import pytest
from django.db import connection

from devices import presence, serializers
from devices.models import Device, Presence
from retire_cluster import db
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster

pytestmark = pytest.mark.django_db(transaction=True)


def beat(cluster: Cluster, times: int) -> None:
    link = cluster.join("historian")
    for number in range(times):
        cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=float(number))))


def history() -> list[float]:
    view = presence.latest(["historian"], with_history=True)["historian"]
    return [sample["cpu_percent"] for sample in view.history]


@pytest.fixture
def cluster() -> Cluster:
    presence.forget("historian")
    return Cluster()


def test_the_last_sixty_are_kept_oldest_first(cluster: Cluster) -> None:
    beat(cluster, 63)

    assert history() == [float(number) for number in range(3, 63)]


def test_another_process_reads_what_the_table_has(cluster: Cluster) -> None:
    beat(cluster, 3)
    presence.flush(only=["historian"])
    presence.forget("historian")

    stored = Presence.objects.get(device_id="historian")
    if connection.vendor == "postgresql":
        assert history() == [0.0, 1.0, 2.0]
    else:  # an SD card is spared; the latest sample is there all the same
        assert stored.history == []
        assert history() == [2.0]


def test_many_devices_are_written_in_parts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BATCH", 2)
    names = [f"part-{number}" for number in range(5)]
    links = [cluster.join(name) for name in names]
    for number, link in enumerate(links):
        cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=float(number))))
    presence.flush(only=names)

    rows = Presence.objects.filter(device_id__in=names).order_by("device_id")
    assert [row.metrics for row in rows] == [{"cpu_percent": float(number)} for number in range(5)]
    assert {row.heartbeats for row in rows} == {1}


def test_a_gateway_that_starts_anew_continues_the_history(cluster: Cluster) -> None:
    beat(cluster, 3)
    presence.flush(only=["historian"])
    before = history()
    presence.forget("historian")
    presence.adopt_stored(["historian"])

    later = db.now() + timedelta(days=1)
    presence.note("historian", {"cpu_percent": 99.5}, now=later, heartbeat=True)
    assert history() == ([*before, 99.5] if connection.vendor == "postgresql" else [2.0, 99.5])


def test_battery_and_heat_go_all_the_way_from_heartbeat_to_status(cluster: Cluster) -> None:
    link = cluster.join("historian")
    reading = wire.Metrics(battery_percent=41.5, charging=False, temperature_c=-3.0, cpu_percent=0.0)
    cluster.say(link, wire.Heartbeat(metrics=reading))
    device = Device.objects.get(id="historian")
    load = serializers.device_status(device)["current_load"]
    assert (load["battery_percent"], load["charging"], load["temperature"]) == (41.5, False, -3.0)
    assert (load["cpu_percent"], load["memory_percent"]) == (0.0, None)

    cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=5.0)))
    load = serializers.device_status(device)["current_load"]
    assert (load["battery_percent"], load["charging"], load["temperature"]) == (None, None, None)


def test_a_list_does_not_read_histories(cluster: Cluster) -> None:
    beat(cluster, 3)

    assert presence.latest(["historian"])["historian"].metrics["cpu_percent"] == 2.0
    presence.flush(only=["historian"])
    presence.forget("historian")
    assert presence.latest(["historian"])["historian"].history == ()
