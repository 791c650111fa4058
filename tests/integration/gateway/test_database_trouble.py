"""What the committer takes for an absent database, and what for a defect."""

import psycopg
import pytest
from django.db import InternalError, OperationalError

from devices import presence
from devices.models import Presence
from retire_cluster.gateway import committer as module
from retire_cluster.gateway.inputs import Effects
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


def test_signs_of_life_the_database_did_not_take_come_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.forget("alice")
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat())

    def fail() -> None:
        raise InternalError("idle in transaction")

    with monkeypatch.context() as broken:
        broken.setattr(presence, "write_transaction", fail)
        cluster.committer._flush_presence()
    assert Presence.objects.get(device_id="alice").heartbeats == 0
    cluster.committer._flush_presence()
    assert Presence.objects.get(device_id="alice").heartbeats == 1
