"""Heartbeats of devices without work: answered without a transaction, and counted all the same."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from devices import presence
from retire_cluster.events.models import EventBatch
from retire_cluster.gateway.inputs import Received
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink

pytestmark = pytest.mark.django_db(transaction=True)


def beat(cluster: Cluster, link: FakeLink, **more: object) -> tuple[int, list[wire.Message]]:
    """A heartbeat between two ticks: the statements it cost, and what the device was told."""
    cluster.committer._next_tick = float("inf")
    link.sent.clear()
    heartbeat = wire.Heartbeat(metrics=wire.Metrics(cpu_percent=7.0), **more)  # type: ignore[arg-type]
    with CaptureQueriesContext(connection) as asked:
        cluster.committer._step([Received(link, (heartbeat,))])
    return len(asked), link.sent


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    found.tick()
    found.committer._backlog = False
    return found


def test_a_device_without_work_costs_no_statement_and_is_seen(cluster: Cluster) -> None:
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat())
    before = presence.latest(["alice"])["alice"]
    done = link.frames_done
    statements, told = beat(cluster, link)
    seen = presence.latest(["alice"])["alice"]
    assert (statements, told, link.frames_done) == (0, [wire.HeartbeatAck()], done + 1)
    assert (seen.heartbeats, seen.metrics) == (before.heartbeats + 1, {"cpu_percent": 7.0})
    assert seen.last_seen > before.last_seen


def test_one_that_says_something_new_is_stored(cluster: Cluster) -> None:
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat())
    statements, told = beat(cluster, link, paused_reason="hot")
    assert statements > 0
    assert told == [wire.HeartbeatAck()]
    assert beat(cluster, link, paused_reason="hot")[0] == 0, "it is known now"


def test_the_first_frame_after_joining_shows_that_the_secret_arrived(cluster: Cluster) -> None:
    link = cluster.join("alice")
    assert beat(cluster, link)[0] > 0
    assert (
        '["device.changed",{"device_id":"alice","verified":true}]' in EventBatch.objects.latest("id").events
    )
    assert beat(cluster, link)[0] == 0
