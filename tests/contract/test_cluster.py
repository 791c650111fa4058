"""GET cluster/metrics and cluster/config: exactly their keys, and nothing that was not measured."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusterconfig.keys import Scope
from devices.models import Gateway
from retire_cluster import ops
from retire_cluster.api import traffic
from tasks import statistics
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _measured_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(traffic, "window", traffic.Window())
    statistics.forget_cached()
    yield
    statistics.forget_cached()


def test_metrics_are_what_was_measured(api: Api) -> None:
    busy = make_device(
        role="compute",
        cpu_count=8,
        memory_mb=16_384,
        slots=8,
        metrics={"cpu_percent": 50.0, "memory_percent": 30.0},
    )
    make_device(role="mobile", platform="android", slots=2, metrics={"cpu_percent": 25.0})
    away = make_device(online=False, metrics={"cpu_percent": 99.0})
    make_attempt(make_task(status="running", device_id=busy.pk), busy, slots=3)
    make_attempt(make_task(status="assigned", device_id=away.pk), away)

    data = api.data("cluster/metrics")

    assert data["devices"] == {
        "total": 3,
        "online": 2,
        "by_role": {"compute": 1, "mobile": 1, "worker": 1},
        "by_platform": {"linux": 2, "android": 1},
    }
    assert data["resources"] == {
        "total_cpu_cores": 12,
        "total_memory_gb": 24.0,
        "total_storage_gb": 200.0,
        "cpu_percent": 37.5,
        "memory_percent": 30.0,
        "slots_total": 10,
        "slots_busy": 3,
    }
    assert data["tasks"]["queue_stats"]["by_status"]["running"] == 1
    assert data["tasks"]["queue_stats"]["by_device"] == {busy.pk: 1, away.pk: 1}


def test_performance_is_that_of_the_last_hour(api: Api) -> None:
    device, now = make_device(), timezone.now()
    for index, status in enumerate(["success", "success", "success", "failed", "cancelled"]):
        task = make_finished_task(device, status=status, finished_at=now, ready_at=START)
        type(task).objects.filter(pk=task.pk).update(
            started_at=START + timedelta(seconds=index), execution_s=index
        )
    make_finished_task(device, finished_at=now - timedelta(hours=2))

    performance = api.data("cluster/metrics")["performance"]

    assert set(performance) == {
        "success_rate",
        "average_execution_time",
        "tasks_per_hour",
        "queue_wait_p50_seconds",
        "queue_wait_p95_seconds",
        "request_rate",
        "error_rate",
    }
    assert performance["success_rate"] == 75.0
    assert performance["average_execution_time"] == 2.0
    assert performance["tasks_per_hour"] == 5
    assert (performance["queue_wait_p50_seconds"], performance["queue_wait_p95_seconds"]) == (2.0, 4.0)


def test_requests_are_counted_with_their_errors(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "local_gateway", lambda: {"status": "unhealthy"})
    assert api.get("/health").status_code == 503
    for _ in range(3):
        api.get("devices/nobody")

    performance = api.data("cluster/metrics")["performance"]

    assert performance["request_rate"] > 0
    assert performance["error_rate"] == 25.0


def test_an_empty_cluster_has_metrics(api: Api) -> None:
    data = api.data("cluster/metrics")

    assert data["resources"]["cpu_percent"] is None
    assert data["resources"]["slots_busy"] == 0
    assert data["performance"]["queue_wait_p95_seconds"] is None
    assert data["performance"]["success_rate"] == 0.0


def test_metrics_cost_the_same_statements_for_any_size(api: Api) -> None:
    def count() -> int:
        statistics.forget_cached()
        with CaptureQueriesContext(connection) as queries:
            api.data("cluster/metrics")
        return len(queries)

    make_finished_task(make_device(metrics={}))
    few = count()
    for _ in range(10):
        make_finished_task(make_device(metrics={}))

    with CaptureQueriesContext(connection) as remembered:
        api.data("cluster/metrics")
    assert count() == few == 8 + (connection.vendor == "postgresql")  # there the database's clock is asked
    assert len(remembered) == 4


def test_the_configuration_for_clients(
    keyed: Callable[..., Api], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "serves_websocket", False)
    Gateway.objects.create(host="0.0.0.0", port=8080, tls=True, started_at=START)
    client = keyed(Scope.READ)

    assert client.data("cluster/config") == {
        "server": {"host": "0.0.0.0", "port": 8080, "max_connections": 1000},
        "heartbeat": {"interval": 60, "timeout": 300, "max_missed": 3},
        "features": {
            "task_scheduling": True,
            "api_enabled": True,
            "auth_required": False,
            "websocket": False,
            "tls": True,
        },
    }
    settings.AUTH = "all"
    assert client.data("cluster/config")["features"]["auth_required"] is True


def test_scheduling_is_as_the_gateway_says(
    keyed: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = keyed(Scope.READ)
    monkeypatch.setattr(ops, "local_gateway", lambda: {"status": "healthy", "scheduler": "unhealthy"})

    features = client.data("cluster/config")["features"]

    assert (features["task_scheduling"], features["tls"]) == (False, False)


def test_the_configuration_needs_a_key(api: Api) -> None:
    assert api.get("cluster/config").status_code == 401
