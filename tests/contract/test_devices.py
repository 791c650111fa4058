"""GET devices, devices/{id}, cluster/status."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from devices.models import Gateway, MetricsSample, Presence
from retire_cluster import __version__
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_task

pytestmark = pytest.mark.django_db

ROW = {
    "device_id",
    "role",
    "platform",
    "status",
    "status_reason",
    "ip_address",
    "last_heartbeat",
    "uptime",
    "capabilities",
    "tags",
    "slots",
    "running_tasks",
}


def _ids(api: Api, query: str) -> list[str]:
    return [row["device_id"] for row in api.data(f"devices?{query}")]


def test_a_device_has_exactly_its_fields(api: Api) -> None:
    make_device(
        "laptop-001",
        role="compute",
        ip_address="192.168.1.101",
        cpu_count=8,
        memory_mb=16_384,
        storage_mb=512_000,
        has_gpu=True,
        tags=["development", "gpu-capable"],
        metrics={"uptime_s": 9000.0},
    )

    [row] = api.data("devices")

    assert set(row) == ROW
    assert row == {
        "device_id": "laptop-001",
        "role": "compute",
        "platform": "linux",
        "status": "online",
        "status_reason": "",
        "ip_address": "192.168.1.101",
        "last_heartbeat": "2026-01-01T12:00:00.000000Z",
        "uptime": "2h 30m",
        "capabilities": {"cpu_count": 8, "memory_total_gb": 16.0, "storage_total_gb": 500.0, "has_gpu": True},
        "tags": ["development", "gpu-capable"],
        "slots": 4,
        "running_tasks": 0,
    }


def test_what_is_unknown_is_null(api: Api) -> None:
    make_device(cpu_count=None, memory_mb=None, storage_mb=None, has_gpu=None, ip_address="")

    [row] = api.data("devices")

    assert set(row["capabilities"].values()) == {None}
    assert (row["uptime"], row["last_heartbeat"], row["ip_address"]) == (None, None, None)


def test_an_offline_device_says_why_and_has_no_uptime(api: Api) -> None:
    make_device(online=False, status_reason="connection lost", metrics={"uptime_s": 50.0})

    [row] = api.data("devices")

    assert (row["status"], row["status_reason"], row["uptime"]) == ("offline", "connection lost", None)


def test_a_paused_device_is_online_and_says_why(api: Api) -> None:
    make_device("phone", paused_reason="battery at 15 %, limit 20 %")

    [row] = api.data("devices")

    assert (row["status"], row["status_reason"]) == ("online", "paused: battery at 15 %, limit 20 %")
    assert api.data("devices/phone")["status_reason"] == row["status_reason"]
    assert api.data("devices/phone/status")["status_reason"] == row["status_reason"]


def test_only_running_attempts_count_as_running(api: Api) -> None:
    device = make_device()
    make_attempt(make_task(), device)
    make_attempt(make_task(), device)
    make_attempt(make_task(), device, state="offered", accepted_at=None)
    make_attempt(make_task(), device, outcome="success")

    assert api.data("devices")[0]["running_tasks"] == 2


def test_details_hold_everything_that_was_reported(api: Api) -> None:
    make_device("nuc", capabilities={"platform": "linux", "hostname": "nuc"}, metrics={"cpu_percent": 12.5})

    data = api.data("devices/nuc")

    assert set(data) == ROW | {
        "registration_time",
        "total_heartbeats",
        "agent_version",
        "task_types",
        "full_capabilities",
        "latest_metrics",
        "metrics_history",
    }
    assert data["total_heartbeats"] == 3
    assert data["full_capabilities"] == {"platform": "linux", "hostname": "nuc"}
    assert data["latest_metrics"] == {"cpu_percent": 12.5}
    assert data["metrics_history"] == [{"timestamp": "2026-01-01T12:00:00.000000Z", "cpu_percent": 12.5}]


def test_the_history_holds_the_latest_metrics_oldest_first(api: Api) -> None:
    history = [
        {"timestamp": f"2026-01-01T12:{minute:02}:00.000000Z", "cpu_percent": minute} for minute in range(3)
    ]
    Presence.objects.create(
        device=make_device("nuc"), last_seen=START, metrics={"cpu_percent": 2}, history=history
    )

    assert api.data("devices/nuc")["metrics_history"] == history


def test_a_removed_device_is_gone(api: Api) -> None:
    make_device("old", online=False, removed_at=START)

    assert api.data("devices") == []
    assert api.get("devices/old").json()["error_code"] == "DEVICE_NOT_FOUND"
    assert api.data("cluster/status")["cluster_stats"]["total_devices"] == 0


def test_filters_narrow_the_list(api: Api) -> None:
    make_device("a", role="compute", tags=["gpu-capable", "x"])
    make_device("b", role="mobile", platform="android", online=False, tags=["gpu"])
    make_device("c", role="storage", platform="windows", tags=["GPU", "x"])

    assert _ids(api, "") == ["c", "b", "a"]
    assert _ids(api, "status=all") == ["c", "b", "a"]
    assert _ids(api, "status=online") == ["c", "a"]
    assert _ids(api, "status=offline") == ["b"]
    assert _ids(api, "role=COMPUTE") == ["a"]
    assert _ids(api, "platform=Windows") == ["c"]


def test_all_tags_must_match_exactly(api: Api) -> None:
    make_device("a", tags=["gpu-capable", "x"])
    make_device("b", tags=["gpu", "x"])
    make_device("c", tags=["GPU"])

    assert _ids(api, "tags=gpu") == ["b"]
    assert _ids(api, "tags=x") == ["b", "a"]
    assert _ids(api, "tags=x,gpu-capable") == ["a"]
    assert _ids(api, "tags=x&tags=gpu") == ["b"]
    assert _ids(api, "tags=gp.") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=up", "status"), ("role=boss", "role"), ("platform=beos", "platform"), ('tags="x"', "tags")],
)
def test_a_value_outside_of_the_enum_is_400(api: Api, query: str, field: str) -> None:
    answer = api.get(f"devices?{query}")

    assert answer.status_code == 400
    assert answer.json()["error_details"]["field"] == field


def test_the_list_costs_the_same_queries_for_any_size(api: Api) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            api.data("devices?page_size=100")
        return len(queries)

    make_device(metrics={})
    few = count()
    for _ in range(20):
        make_attempt(make_task(), make_device(metrics={}))

    assert count() == few == 4


def test_running_attempts_are_counted_by_the_index_on_live_ones(api: Api) -> None:
    make_attempt(make_task(), make_device("nuc"))

    with CaptureQueriesContext(connection) as queries:
        api.data("devices")

    [sql] = [query["sql"] for query in queries if "tasks_attempt" in query["sql"]]
    # The partial index is only usable where its very condition stands in the query.
    assert "NOT (state = 'ended')" in sql


def test_a_device_s_metrics_are_quarters_of_an_hour(api: Api) -> None:
    device = make_device("laptop-001")
    now = datetime.now(UTC)
    for hours, value in ((30, 1.0), (2, 40.0), (1, 60.0)):
        spread = {"cpu_percent": [value - 1, value, value + 1, 15], "temperature_c": [20, 21.5, 25, 3]}
        start = now - timedelta(hours=hours)
        MetricsSample.objects.create(device=device, start=start, heartbeats=15, values=spread)

    answer = api.data("devices/laptop-001/metrics")

    assert answer.keys() == {"device_id", "since", "until", "interval_seconds", "samples"}
    assert (answer["device_id"], answer["interval_seconds"]) == ("laptop-001", 900)
    assert [sample["cpu_percent"]["avg"] for sample in answer["samples"]] == [40.0, 60.0]
    sample = answer["samples"][1]
    assert datetime.fromisoformat(sample.pop("timestamp")) == now - timedelta(hours=1)
    assert sample == {
        "heartbeats": 15,
        "cpu_percent": {"min": 59.0, "avg": 60.0, "max": 61.0},
        "memory_percent": None,
        "battery_percent": None,
        "temperature": {"min": 20.0, "avg": 21.5, "max": 25.0},
        "running_tasks": None,
    }
    assert len(api.data("devices/laptop-001/metrics?hours=168")["samples"]) == 3
    assert api.data("devices/laptop-001/metrics?hours=1")["samples"] == []


@pytest.mark.parametrize(("hours", "status"), [("169", 400), ("0", 400), ("168", 200), ("", 200)])
def test_metrics_reach_back_a_week_at_most(api: Api, hours: str, status: int) -> None:
    make_device("laptop-001")

    answer = api.get(f"devices/laptop-001/metrics?hours={hours}")

    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error_details"] == {
            "field": "hours",
            "reason": "must be a whole number from 1 to 168",
        }


def test_the_cluster_s_status_is_as_the_specification_shows(api: Api) -> None:
    Gateway.objects.create(host="0.0.0.0", port=8080, tls=True, started_at=START)
    make_device(role="compute", cpu_count=8, memory_mb=16_384, storage_mb=102_400)
    make_device(role="mobile", platform="android", cpu_count=None, memory_mb=2048, storage_mb=None)
    make_device(role="mobile", platform="android", online=False)

    assert api.data("cluster/status") == {
        "cluster_stats": {
            "total_devices": 3,
            "online_devices": 2,
            "offline_devices": 1,
            "health_percentage": 66.7,
            "total_resources": {"cpu_cores": 8, "memory_gb": 18.0, "storage_gb": 100.0},
            "by_role": {"compute": 1, "mobile": 2},
            "by_platform": {"android": 2, "linux": 1},
        },
        "server_info": {"version": __version__, "uptime": "2d 8h 30m", "host": "0.0.0.0", "port": 8080},
    }


def test_an_empty_cluster_has_a_status(api: Api) -> None:
    stats: dict[str, Any] = api.data("cluster/status")["cluster_stats"]

    assert (stats["total_devices"], stats["health_percentage"]) == (0, 0.0)
    assert stats["total_resources"] == {"cpu_cores": 0, "memory_gb": 0.0, "storage_gb": 0.0}
