"""What the committer takes for an absent database, and what for a defect."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import InternalError, OperationalError

from clusterconfig import services as config
from clusterconfig.audit import SYSTEM
from devices import presence
from devices.models import Presence
from retire_cluster import bulk, db
from retire_cluster.gateway import committer as module
from retire_cluster.gateway.app import GatewayApp
from retire_cluster.gateway.ingest import Identity
from retire_cluster.gateway.inputs import Effects
from retire_cluster.protocol import codec
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, sent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    return Cluster()


def fail_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None
) -> None:
    """The next transaction ends with an error of Django's for one of the driver's."""
    commit = cluster.committer._commit

    def failing(*inputs: object, **flags: bool) -> Effects | None:
        monkeypatch.setattr(cluster.committer, "_commit", commit)
        raise error from cause

    monkeypatch.setattr(cluster.committer, "_commit", failing)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (InternalError("idle in transaction"), psycopg.errors.IdleInTransactionSessionTimeout()),
        (OperationalError("deadlock detected"), psycopg.errors.DeadlockDetected()),
        (OperationalError("terminating connection"), psycopg.errors.AdminShutdown()),
    ],
)
def test_a_transaction_the_database_ended_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception
) -> None:
    link = cluster.join("alice")
    fail_once(cluster, monkeypatch, error, cause)
    cluster.say(link, wire.Heartbeat())
    assert sent(link, wire.HeartbeatAck)


def test_a_deadlock_is_no_absent_database(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    link = cluster.join("alice")
    fail_once(cluster, monkeypatch, OperationalError("deadlock"), psycopg.errors.DeadlockDetected())
    cluster.say(link, wire.Heartbeat())
    assert "does not answer" not in caplog.text


def test_any_other_internal_error_is_a_defect(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    link = cluster.join("alice")
    fail_once(cluster, monkeypatch, InternalError("broken"), psycopg.errors.InternalError_())
    with pytest.raises(InternalError):
        cluster.say(link, wire.Heartbeat())


def fail_until(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, over: Callable[[], bool]) -> None:
    """No transaction succeeds until the condition holds."""
    commit = cluster.committer._commit

    def failing(*inputs: Any, **flags: Any) -> Effects | None:
        if over():
            return commit(*inputs, **flags)
        raise OperationalError("connection refused")

    monkeypatch.setattr(cluster.committer, "_commit", failing)


def test_agents_are_sent_away_after_half_the_silence_and_what_they_said_is_kept(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    config.change("heartbeat", {"interval": 1, "timeout": 3, "max_missed": 1}, actor=SYSTEM, now=db.now())
    link = cluster.join("alice")
    told: list[tuple[str, bool]] = []

    def is_over() -> bool:
        told.append((cluster.committer.trouble, cluster.committer.is_cut_off))
        return link.goodbye is not None

    fail_until(cluster, monkeypatch, is_over)
    cluster.say(link, wire.Heartbeat())

    assert link.goodbye is not None
    assert (link.goodbye.code, link.goodbye.reason) == ("unavailable", module.CUT_OFF)
    assert told[0] == ("", False)
    assert told[-1] == ("the database does not answer: connection refused", True)
    assert (cluster.committer.trouble, cluster.committer.is_cut_off) == ("", False)
    assert sent(link, wire.HeartbeatAck), "committed once the database was back"
    assert len(caplog.records) == 1, "an outage of hours must not fill a disk"


def test_a_gateway_that_is_cut_off_takes_no_connection(cluster: Cluster) -> None:
    identity = Identity(cluster.committer._identity.gateway_id, config.incarnation())
    app = GatewayApp(identity, lambda *_: None, lambda _: None)
    app._committer.is_cut_off = True
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: dict[str, Any]) -> None:
        said.append(event)

    scope = {"type": "websocket", "path": "/node", "headers": [], "client": ("192.0.2.7", 1)}
    asyncio.run(app(scope, receive, send))

    accepted, goodbye, closed = said
    assert accepted["type"] == "websocket.accept"
    assert codec.decode_from_gateway(goodbye["text"]) == [
        wire.Goodbye(code="unavailable", reason=module.CUT_OFF)
    ]
    assert closed == {"type": "websocket.close", "code": 1013}


def test_signs_of_life_that_cannot_be_written_are_written_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=12.5)))
    write = presence._write

    def failing(views: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(presence, "_write", failing)
    cluster.committer._keep_measured()
    monkeypatch.setattr(presence, "_write", write)
    cluster.committer._keep_measured()
    assert Presence.objects.get().metrics["cpu_percent"] == 12.5


def test_signs_of_life_the_database_did_not_take_come_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.forget("alice")
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat())

    def fail(*statement: Any) -> None:
        raise InternalError("idle in transaction")

    with monkeypatch.context() as broken:
        broken.setattr(bulk, "store_rows", fail)
        cluster.committer._keep_measured()
    assert Presence.objects.get(device_id="alice").heartbeats == 0
    cluster.committer._keep_measured()
    assert Presence.objects.get(device_id="alice").heartbeats == 1
