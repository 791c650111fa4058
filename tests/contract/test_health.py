"""`/health`: three components, the services behind them, and which outage means what."""

import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from redis import Redis

from devices.models import Gateway
from retire_cluster import db, disk, ops
from retire_cluster.ops import asking, others, services
from tests.contract.conftest import Api
from tests.factories import make_device

pytestmark = pytest.mark.django_db

COMPONENTS = ("api", "cluster_server", "task_scheduler")


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(disk, "_refused_at", float("-inf"))
    monkeypatch.setattr(disk, "free_mb", lambda _: 5000.0)
    services.forget()
    others.heard()
    yield
    services.forget()
    others.heard()


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a Redis that is not there."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else's
        yield f"redis://:secret@127.0.0.1:{reserved.getsockname()[1]}/0"


def health(api: Api) -> tuple[int, list[str], dict[str, Any]]:
    answer = api.get("/health")
    body = answer.json()
    return answer.status_code, [body["components"][name] for name in COMPONENTS], body["services"]


def test_a_simple_cluster_has_three_services(api: Api) -> None:
    status, components, found = health(api)
    assert (status, components) == (200, ["healthy"] * 3)
    assert found.keys() == {"database", "disk", "gateway"}
    assert found["disk"] == {"status": "healthy", "free_mb": 5000.0}


def test_redis_and_broker_away_only_degrade(api: Api, settings: Any, nobody: str) -> None:
    settings.REDIS_URL = settings.BROKER_URL = nobody
    status, components, found = health(api)
    assert (status, components) == (200, ["degraded", "healthy", "degraded"])
    assert "rate limits count per process" in found["redis"]["reason"]
    assert "RETIRE_CLUSTER_BROKER_URL" in found["broker"]["reason"]
    assert "secret" not in str(found)


def test_a_service_that_hangs_is_told_and_not_waited_for(
    api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FIRST_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        status, components, found = health(api)
    assert (status, components[0]) == (200, "degraded")
    assert "it takes too long" in found["redis"]["reason"]


def test_a_redis_that_answers_is_well(api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(Redis, "ping", lambda _: True)
    assert health(api)[2]["redis"]["status"] == "healthy"


def test_a_database_away_is_unhealthy_and_says_what_goes_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise OperationalError("password authentication failed for user joe")

    monkeypatch.setattr(connection, "cursor", refused)
    status, components, found = health(api)
    assert (status, components) == (503, ["unhealthy", "healthy", "healthy"])
    assert "agents keep working" in found["database"]["reason"]
    assert "joe" not in str(found), "who may read health may not know everything"


@pytest.mark.parametrize(("free", "state", "code"), [(99.0, "degraded", 200), (0.5, "unhealthy", 503)])
def test_room_on_the_disk_is_watched(
    api: Api, monkeypatch: pytest.MonkeyPatch, free: float, state: str, code: int
) -> None:
    monkeypatch.setattr(disk, "free_mb", lambda _: free)
    status, components, found = health(api)
    assert (status, components[0], found["disk"]["status"]) == (code, state, state)
    assert f"{free:g} MB" in found["disk"]["reason"]


def test_a_disk_that_refused_a_write_is_tried(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "refused_lately", lambda: True)
    assert health(api)[0] == 200, "it takes writes again"
    monkeypatch.setattr(disk, "trouble", lambda _: "Disk quota exceeded")
    status, _, found = health(api)
    assert status == 503
    assert "Disk quota exceeded" in found["disk"]["reason"]


def test_the_gateway_s_own_words_are_passed_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"status": "unhealthy", "scheduler": "unhealthy", "reason": "the server's disk is full"}
    monkeypatch.setattr(ops, "local_gateway", lambda: answer)
    status, components, found = health(api)
    assert (status, components) == (503, ["healthy", "unhealthy", "unhealthy"])
    assert found["gateway"]["reason"] == "the server's disk is full"


def test_a_silent_gateway_beside_a_living_one_only_degrades(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "local_gateway", lambda: {"status": "unhealthy", "reason": "it is away"})
    now = db.now()
    row = Gateway.objects.create(
        host="::1", port=1, tls=False, started_at=now, seen_at=now - timedelta(seconds=1)
    )
    monkeypatch.setattr(db, "is_sqlite", lambda: False)
    assert health(api)[:2] == (503, ["healthy", "unhealthy", "unhealthy"]), (
        "it may be the one that fell silent"
    )
    Gateway.objects.filter(pk=row.pk).update(seen_at=db.now())
    status, components, found = health(api)
    assert (status, components) == (200, ["healthy", "degraded", "healthy"])
    assert found["gateway"]["reason"] == "it is away; 1 other does the work meanwhile"


def test_the_devices_of_all_gateways_are_counted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health(api)[2]["gateway"]["devices_connected"] == 1, "as the only one says"
    for name in ("attic", "cellar"):
        make_device(name)
    make_device("shed", online=False)
    assert services.devices_connected() == {"devices_connected": 2}
    found = {"status": "healthy", "engine": "postgresql", "devices_connected": 2}
    monkeypatch.setattr(services, "answers", lambda: {"database": dict(found)})
    told = health(api)[2]
    assert told["gateway"]["devices_connected"] == 2
    assert "devices_connected" not in told["database"]


def _gateway_seen(moment: datetime) -> None:
    Gateway.objects.create(host="::1", port=1, tls=False, started_at=moment, seen_at=moment)


def test_a_silence_noted_long_ago_proves_no_other_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours came back unseen, spoke, and died again: its own row must not pass for another one's."""
    monkeypatch.setattr(db, "is_sqlite", lambda: False)
    assert others.living() == 0
    _gateway_seen(db.now())
    monkeypatch.setattr(others, "_looked_at", others._looked_at - others.UNSEEN_S - 1)
    assert others.living() == 0


def test_a_gateway_that_spoke_once_since_then_is_not_alive_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "is_sqlite", lambda: False)
    now = db.now()
    monkeypatch.setattr(others, "_silent_since", now - timedelta(minutes=5))
    monkeypatch.setattr(others, "_looked_at", time.monotonic())
    _gateway_seen(now - timedelta(seconds=11))
    assert others.living() == 0
    _gateway_seen(now - timedelta(seconds=1))
    assert others.living() == 1
