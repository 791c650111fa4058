"""What every endpoint asks of the database: so many statements, however much there is to show."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig import audit, keys, services, tokens
from clusterconfig.audit import SYSTEM
from clusterconfig.keys import Scope
from devices import pings
from devices.models import MetricsSample
from retire_cluster import db
from retire_cluster.api.remembered import Remembered
from tasks import profiles, statistics
from tests.contract.conftest import Api
from tests.contract.test_census import census
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

FEW, MANY = 1, 30
OURS = ("tasks_", "devices_", "clusterconfig_", "events_", "auth_", "django_session")
ECHO = {"task_type": "echo", "payload": {}}

# Statements on our tables, the one that finds the caller's key included; savepoints and clocks are none.
TABLE = {
    ("GET", "api/v1"): 1,
    ("GET", "api/v1/cluster/status"): 3,
    ("GET", "api/v1/cluster/metrics"): 9,
    ("GET", "api/v1/cluster/config"): 3,
    ("GET", "api/v1/devices"): 5,
    ("GET", "api/v1/devices/summary"): 2,
    ("GET", "api/v1/devices/{}"): 4,
    ("DELETE", "api/v1/devices/{}"): 12,  # its attempts that are given up are counted
    ("GET", "api/v1/devices/{}/status"): 5,
    ("GET", "api/v1/devices/{}/metrics"): 3,
    ("POST", "api/v1/devices/{}/ping"): 5,
    ("POST", "api/v1/devices/{}/cordon"): 7,
    ("POST", "api/v1/devices/{}/uncordon"): 4,
    ("POST", "api/v1/devices/{}/drain"): 7,
    ("GET", "api/v1/tasks"): 3,
    ("POST", "api/v1/tasks"): 4,
    ("POST", "api/v1/tasks/batch"): 4,
    ("GET", "api/v1/tasks/types"): 2,
    ("GET", "api/v1/tasks/results"): 4,
    ("GET", "api/v1/tasks/statistics"): 9,
    ("GET", "api/v1/tasks/{}"): 3,
    ("GET", "api/v1/tasks/{}/status"): 5,
    ("GET", "api/v1/tasks/{}/result"): 3,
    ("GET", "api/v1/tasks/{}/explain"): 5,
    ("GET", "api/v1/tasks/{}/logs"): 3,
    ("POST", "api/v1/tasks/{}/cancel"): 8,
    ("POST", "api/v1/tasks/{}/retry"): 9,
    ("GET", "api/v1/config"): 3,
    ("GET", "api/v1/config/{}"): 2,
    ("PUT", "api/v1/config/{}"): 7,
    ("POST", "api/v1/config/reset"): 10,
    ("GET", "api/v1/keys"): 3,
    ("POST", "api/v1/keys"): 3,
    ("GET", "api/v1/keys/{}"): 2,
    ("DELETE", "api/v1/keys/{}"): 5,
    ("GET", "api/v1/join-tokens"): 3,
    ("POST", "api/v1/join-tokens"): 3,
    ("GET", "api/v1/join-tokens/{}"): 2,
    ("DELETE", "api/v1/join-tokens/{}"): 5,
    ("GET", "api/v1/audit"): 3,
    ("POST", "api/v1/ws-tickets"): 3,
}


class World:
    """A cluster with so many of each, and an administrator whose key was used a moment ago."""

    def __init__(self, api: Api, size: int) -> None:
        self.api = api
        self.finished = []
        for _ in range(size):
            device = make_device(metrics={}, tags=["a"])
            make_attempt(make_task(status="running"), device)
            self.failed = make_finished_task(device, status="failed")
            self.finished.append(self.failed.pk)
            self.queued = make_task()
            for outcome in ("lost", "failed", "timeout"):
                make_attempt(self.queued, device, outcome=outcome)
            _, self.key = keys.create("k", [Scope.READ], now=START)
            _, self.token = tokens.create("t", now=START)
            audit.record("task.cancel", "x", actor=SYSTEM, now=START)
        for _ in range(size):
            make_attempt(make_task(status="running"), device)
            make_attempt(self.queued, device, outcome="lost")
        self.device = device
        for number in range(size):
            start = db.now() - timedelta(hours=number)
            MetricsSample.objects.create(device=device, start=start, heartbeats=1, values={})
        for _ in range(2):  # its profile exists from now on, and this process knows it
            assert api.post("tasks", ECHO).status_code == 201

    def path(self, method: str, path: str) -> str:
        named = {
            "tasks": self.failed.pk if path.endswith(("retry", "result")) else self.queued.pk,
            "devices": self.device.pk,
            "keys": self.key.pk,
            "join-tokens": self.token.pk,
            "config": "heartbeat",
        }
        kind = f"{path}/".split("/")[2]
        filled = "/" + path.replace("{}", str(named.get(kind, "")))
        if path == "api/v1/tasks/results":
            return f"{filled}?task_id={','.join(map(str, self.finished))}"
        return f"{filled}?page_size=100" if method == "GET" else filled


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "api/v1/tasks"): ECHO,
    ("POST", "api/v1/keys"): {"name": "n", "scopes": ["read"]},
    ("POST", "api/v1/join-tokens"): {"name": "n"},
    ("POST", "api/v1/devices/{}/cordon"): {"reason": "why"},
    ("POST", "api/v1/devices/{}/drain"): {"reason": "why", "deadline_seconds": 5},
}


def asked(world: World, method: str, path: str, *, size: int) -> list[str]:
    """The statements of one call."""
    statistics.forget_cached()
    services.forget_cached()
    sized = {"api/v1/tasks/batch": {"tasks": [ECHO] * size}, "api/v1/config/{}": {"interval": 30 + size}}
    body = sized.get(path) or BODIES.get((method, path), {})
    with CaptureQueriesContext(connection) as queries:
        answer = world.api.send(
            method, world.path(method, path), data=json.dumps(body), content_type="application/json"
        )
    assert answer.status_code in (200, 201), answer.content
    return [item["sql"] for item in queries if any(name in item["sql"] for name in OURS)]


@pytest.fixture
def world_of(keyed: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    monkeypatch.setattr(pings, "ANSWER_WITHIN_S", 0.0)  # nobody answers a ping here
    monkeypatch.setattr(profiles, "REMEMBERED_S", 3600.0)  # however slow this machine is
    monkeypatch.setattr(statistics, "_figures", Remembered(3600.0))
    return lambda size: World(keyed(Scope.ADMIN), size)


def test_no_route_is_forgotten() -> None:
    assert {row for row in census() if row[1].startswith("api/v1")} == TABLE.keys()


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_a_call_costs_the_same_statements_for_any_size(
    world_of: Callable[[int], World], method: str, path: str
) -> None:
    few = asked(world_of(FEW), method, path, size=FEW)
    many = asked(world_of(MANY), method, path, size=MANY)

    assert (len(few), len(many)) == (TABLE[method, path], TABLE[method, path]), many


def test_the_answer_after_waiting_is_one_more(world_of: Callable[[int], World]) -> None:
    world = world_of(FEW)
    with CaptureQueriesContext(connection) as queries:
        answer = world.api.post("tasks?wait=1", ECHO)

    assert answer.json()["data"]["task"]["result"] is None  # not waited for: this server has one thread
    ours = [item["sql"] for item in queries if any(name in item["sql"] for name in OURS)]
    assert len(ours) == TABLE["POST", "api/v1/tasks"] + 1, ours
