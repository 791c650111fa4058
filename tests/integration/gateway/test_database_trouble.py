"""What the committer takes for an absent database, and what for a defect."""

import pytest
from django.db import InternalError, connection

from retire_cluster.gateway import committer as module
from retire_cluster.gateway.inputs import Effects
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, sent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    return Cluster()


def fail_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, usable: bool) -> None:
    """The next transaction ends as PostgreSQL ends one that was idle for too long."""
    commit = cluster.committer._commit

    def failing(*inputs: object, **flags: bool) -> Effects | None:
        monkeypatch.setattr(cluster.committer, "_commit", commit)
        raise InternalError("terminating connection due to idle-in-transaction timeout")

    monkeypatch.setattr(cluster.committer, "_commit", failing)
    monkeypatch.setattr(connection, "is_usable", lambda: usable)


def test_a_transaction_the_database_ended_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cluster.join("alice")
    fail_once(cluster, monkeypatch, usable=False)
    cluster.say(link, wire.Heartbeat())
    assert sent(link, wire.HeartbeatAck)


def test_an_internal_error_on_a_living_connection_is_a_defect(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cluster.join("alice")
    fail_once(cluster, monkeypatch, usable=True)
    with pytest.raises(InternalError):
        cluster.say(link, wire.Heartbeat())
