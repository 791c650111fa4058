"""Devices one by one: status, ping, cordon, drain, removal; and all of them: summary."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry
from devices import pings
from devices.models import Device, Ping
from retire_cluster import hints
from tasks.models import Task
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_task

pytestmark = pytest.mark.django_db

Keyed = Callable[..., Api]


@pytest.fixture
def operator(keyed: Keyed) -> Api:
    return keyed(Scope.OPERATE)


def _post(api: Api, path: str, body: Any = None) -> Any:
    answer = api.post(path, {} if body is None else body)
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


def _statements(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        act()
    return len(queries)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- status ---------------------------------------------------------------------------------------------------


def test_status_has_exactly_its_fields(api: Api) -> None:
    device = make_device(
        "phone",
        metrics={
            "cpu_percent": 12.5,
            "memory_percent": 40.0,
            "battery_percent": 80.0,
            "charging": True,
            "temperature_c": 31.5,
            "uptime_s": 9000.0,
        },
    )
    make_attempt(make_task(), device)
    for minute, milliseconds in ((1, 40.0), (2, 7.25), (3, None)):
        at = START + timedelta(minutes=minute)
        Ping.objects.create(device=device, requested_at=at, ended_at=at, response_time_ms=milliseconds)

    assert api.data("devices/phone/status") == {
        "device_id": "phone",
        "status": "online",
        "is_online": True,
        "status_reason": "",
        "last_heartbeat": "2026-01-01T12:00:00.000000Z",
        "uptime": "2h 30m",
        "response_time_ms": 7.25,
        "current_load": {
            "slots": 4,
            "running_tasks": 1,
            "cpu_percent": 12.5,
            "memory_percent": 40.0,
            "battery_percent": 80.0,
            "charging": True,
            "temperature": 31.5,
        },
        "last_metrics": {
            "cpu_percent": 12.5,
            "memory_percent": 40.0,
            "battery_percent": 80.0,
            "charging": True,
            "temperature_c": 31.5,
            "uptime_s": 9000.0,
        },
    }


def test_an_offline_device_has_last_metrics_but_no_current_ones(api: Api) -> None:
    make_device("old", online=False, status_reason="connection lost", metrics={"cpu_percent": 99.0})

    data = api.data("devices/old/status")

    assert (data["status"], data["is_online"], data["status_reason"]) == ("offline", False, "connection lost")
    assert data["current_load"]["cpu_percent"] is None
    assert data["last_metrics"] == {"cpu_percent": 99.0}
    assert data["response_time_ms"] is None


def test_a_device_never_heard_of_has_a_status(api: Api) -> None:
    make_device("new", online=False)

    data = api.data("devices/new/status")

    assert (data["last_heartbeat"], data["uptime"], data["last_metrics"]) == (None, None, {})


# --- ping -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A gateway in this process: answers each ping as soon as it hears of it."""

    def answering(milliseconds: float) -> None:
        def hear(hint: str = hints.WORK) -> None:
            for row in Ping.objects.filter(ended_at=None):
                pings.answer(row.id, row.device_id, milliseconds, now=timezone.now())
                pings.waiters.ended([row.id])

        monkeypatch.setattr(hints, "notify", hear)

    return answering


def test_a_ping_tells_how_long_the_device_took(operator: Api, gateway: Callable[[float], None]) -> None:
    make_device("nuc")
    gateway(12.3456)

    data = _post(operator, "devices/nuc/ping")

    assert set(data) == {"device_id", "ping_successful", "response_time_ms", "ping_timestamp"}
    assert (data["device_id"], data["ping_successful"], data["response_time_ms"]) == ("nuc", True, 12.346)
    assert abs((_moment(data["ping_timestamp"]) - timezone.now()).total_seconds()) < 60
    assert operator.data("devices/nuc/status")["response_time_ms"] == 12.346


def test_an_offline_device_is_not_asked(operator: Api) -> None:
    make_device("old", online=False, status_reason="the connection was lost")

    data = _post(operator, "devices/old/ping")

    assert (data["ping_successful"], data["response_time_ms"]) == (False, None)
    assert data["reason"] == "the device is offline: the connection was lost"
    assert not Ping.objects.exists()


def test_a_device_that_does_not_answer_in_time_is_a_failed_ping(
    operator: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings, "ANSWER_WITHIN_S", 0.05)
    make_device("deaf")

    data = _post(operator, "devices/deaf/ping")

    assert (data["ping_successful"], data["reason"]) == (False, pings.NO_ANSWER)
    row = Ping.objects.get()
    assert (row.failure, row.response_time_ms) == (pings.NO_ANSWER, None)
    assert row.ended_at is not None


def test_nobody_is_left_waiting(operator: Api, gateway: Callable[[float], None]) -> None:
    make_device("nuc")
    gateway(1.0)

    _post(operator, "devices/nuc/ping")

    assert pings.waiters.waited_for() == []


def test_a_waiter_is_woken_from_another_thread() -> None:
    ping_id = pings.new_id()
    with pings.waiters.register(ping_id) as waiter:
        threading.Thread(target=lambda: pings.waiters.ended([ping_id])).start()
        assert waiter.wait(10)


# --- cordon, drain, uncordon ----------------------------------------------------------------------------------


def test_cordon_and_uncordon(operator: Api) -> None:
    device = make_device("nuc")
    make_attempt(make_task(), device)

    assert _post(operator, "devices/nuc/cordon", {"reason": "noisy fan"}) == {
        "device_id": "nuc",
        "status": "online",
        "status_reason": "cordoned: noisy fan",
        "cordoned": True,
        "draining": False,
        "drain_deadline": None,
        "running_tasks": 1,
    }
    assert operator.data("devices/nuc")["status_reason"] == "cordoned: noisy fan"

    back = _post(operator, "devices/nuc/uncordon")

    assert (back["cordoned"], back["status_reason"]) == (False, "")


def test_a_drain_has_a_deadline_and_ends_drained(operator: Api) -> None:
    device = make_device("nuc")
    attempt = make_attempt(make_task(), device, state="offered", accepted_at=None)

    busy = _post(operator, "devices/nuc/drain", {"reason": "repair", "deadline_seconds": 600})

    in_s = (_moment(busy["drain_deadline"]) - timezone.now()).total_seconds()
    assert 540 < in_s <= 600
    assert (busy["cordoned"], busy["draining"], busy["status_reason"]) == (True, True, "draining: repair")

    attempt.delete()

    assert operator.data("devices/nuc/status")["status_reason"] == "drained: repair"


def test_a_drain_without_a_body_has_no_deadline(operator: Api) -> None:
    make_device("nuc")

    drained = _post(operator, "devices/nuc/drain")

    assert (drained["drain_deadline"], drained["status_reason"]) == (None, "drained")
    assert _post(operator, "devices/nuc/cordon")["draining"] is False


def test_an_offline_device_says_both_why_it_is_away_and_out_of_service(operator: Api) -> None:
    make_device("old", online=False, status_reason="the connection was lost")

    cordoned = _post(operator, "devices/old/cordon", {"reason": "x"})

    assert cordoned["status_reason"] == "the connection was lost; cordoned: x"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("cordon", {"reason": "x" * 501}, "reason"),
        ("cordon", {"reason": 5}, "reason"),
        ("cordon", {"deadline_seconds": 5}, "deadline_seconds"),
        ("uncordon", {"why": "x"}, "why"),
        ("uncordon", [], "body"),
        ("drain", {"deadline_seconds": -1}, "deadline_seconds"),
        ("drain", {"deadline_seconds": 86_401}, "deadline_seconds"),
        ("drain", {"deadline_seconds": True}, "deadline_seconds"),
        ("drain", {"deadline_seconds": "60"}, "deadline_seconds"),
        ("ping", {"count": 3}, "count"),
    ],
)
def test_bad_input_names_its_field_and_changes_nothing(
    operator: Api, path: str, body: Any, field: str
) -> None:
    make_device("nuc")

    answer = operator.post(f"devices/nuc/{path}", body)

    assert answer.status_code == 400
    assert answer.json()["error_details"]["field"] == field
    assert not Device.objects.get().cordoned


def test_each_change_is_on_record_once(operator: Api) -> None:
    make_device("nuc")
    AuditEntry.objects.all().delete()

    _post(operator, "devices/nuc/cordon", {"reason": "a"})
    _post(operator, "devices/nuc/cordon", {"reason": "a"})
    _post(operator, "devices/nuc/drain", {"reason": "b", "deadline_seconds": 5})
    _post(operator, "devices/nuc/uncordon", {"reason": "c"})
    _post(operator, "devices/nuc/uncordon")

    entries = AuditEntry.objects.order_by("id")
    assert [(entry.action, entry.target, entry.details) for entry in entries] == [
        ("device.cordon", "nuc", {"reason": "a"}),
        ("device.drain", "nuc", {"reason": "b", "deadline_seconds": 5}),
        ("device.uncordon", "nuc", {"reason": "c"}),
    ]
    assert all(entry.actor.startswith("key:") and entry.address and entry.request_id for entry in entries)


# --- removal --------------------------------------------------------------------------------------------------


def test_a_device_is_removed_for_good(operator: Api) -> None:
    device = make_device("nuc")
    task = make_task(status="running", device_id="nuc", attempt_no=1)
    make_attempt(task, device)

    answer = operator.send("DELETE", "devices/nuc")
    data = answer.json()["data"]

    assert answer.status_code == 200
    assert set(data) == {"device_id", "removed_at", "was_online"}
    assert (data["device_id"], data["was_online"]) == ("nuc", True)
    assert Task.objects.get().status == "queued"
    assert operator.get("devices/nuc").status_code == 404
    assert operator.send("DELETE", "devices/nuc").json()["error_code"] == "DEVICE_NOT_FOUND"
    gone = Device.objects.get()
    assert (gone.online, gone.secret_digest, gone.removed_at is not None) == (False, "", True)
    assert AuditEntry.objects.filter(action="device.remove", target="nuc").count() == 1


def test_delete_needs_no_body_and_takes_none_amiss(operator: Api) -> None:
    make_device("a")

    assert operator.send("DELETE", "devices/a/", content_type="application/json").status_code == 200


@pytest.mark.parametrize("device_id", ["nobody", "x" * 65, "a b", "%00", "..%2f"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/status"),
        ("POST", "/ping"),
        ("POST", "/cordon"),
        ("POST", "/uncordon"),
        ("POST", "/drain"),
    ],
)
def test_an_unknown_device_is_404(operator: Api, method: str, path: str, device_id: str) -> None:
    answer = operator.send(method, f"devices/{device_id}{path}", content_type="application/json")

    assert answer.status_code == 404
    assert answer.json()["error_code"] in ("DEVICE_NOT_FOUND", "NOT_FOUND")


# --- summary --------------------------------------------------------------------------------------------------


def test_the_summary_counts_all_devices(api: Api) -> None:
    make_device(role="compute", cpu_count=8, memory_mb=16_384, storage_mb=512_000, has_gpu=True)
    make_device(role="compute", cpu_count=8, memory_mb=16_383, has_gpu=None)
    make_device(role="mobile", platform="android", cpu_count=None, memory_mb=None, storage_mb=None)
    make_device(role="compute", cpu_count=64, memory_mb=65_536, has_gpu=True, online=False)
    make_device(role="storage", online=False, removed_at=START)

    assert api.data("devices/summary") == {
        "total_devices": 4,
        "online_devices": 3,
        "offline_devices": 1,
        "by_role": {"compute": 3, "mobile": 1},
        "by_platform": {"linux": 3, "android": 1},
        "by_status": {"online": 3, "offline": 1},
        "resource_totals": {"cpu_cores": 16, "memory_gb": 32.0, "storage_gb": 600.0},
        "capabilities": {"gpu_enabled": 2, "mobile_devices": 1, "server_grade": 2},
    }


def test_the_summary_of_nothing(api: Api) -> None:
    assert api.data("devices/summary")["resource_totals"] == {
        "cpu_cores": 0,
        "memory_gb": 0.0,
        "storage_gb": 0.0,
    }


# --- cost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "statements"), [("devices/summary", 1), ("devices/nuc", 3), ("devices/nuc/status", 4)]
)
def test_reading_costs_the_same_statements_for_any_number_of_devices(
    api: Api, path: str, statements: int
) -> None:
    make_attempt(make_task(), make_device("nuc", metrics={}))
    few = _statements(lambda: api.data(path))
    for _ in range(10):
        make_attempt(make_task(), make_device(metrics={}))

    assert _statements(lambda: api.data(path)) == few == statements


@pytest.mark.parametrize(
    ("method", "path", "statements"),
    [
        ("POST", "ping", 5),
        ("POST", "cordon", 6),
        ("POST", "drain", 6),
        ("POST", "uncordon", 3),
        ("DELETE", "", 11),
    ],
)
def test_changes_cost_few_statements(
    operator: Api, gateway: Callable[[float], None], method: str, path: str, statements: int
) -> None:
    device = make_device("nuc", metrics={})
    make_attempt(make_task(status="running", attempt_no=1), device)
    operator.data("devices/nuc")  # the key's first use is written down
    if path == "ping":
        gateway(1.0)  # two statements are this gateway's

    with CaptureQueriesContext(connection) as queries:
        answer = operator.send(method, f"devices/nuc/{path}", content_type="application/json")

    # Apart from the key's look-up, the clock on Postgres, and the savepoints of a test inside a transaction.
    besides = ("SAVEPOINT", "RELEASE", "SELECT clock_timestamp")
    counted = [query["sql"] for query in queries if not query["sql"].startswith(besides)]
    assert answer.status_code == 200
    assert len(counted) - 1 == statements
