"""A ping is a row: the gateway that owns the device sends it once, and measures the answer."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from devices import pings
from devices.models import Ping
from retire_cluster import db
from retire_cluster.gateway.inputs import Received
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink, sent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def ask(device_id: str) -> UUID:
    ping_id = pings.new_id()
    pings.request(ping_id, device_id, now=db.now())
    return ping_id


def nonces(link: FakeLink) -> list[UUID]:
    return [UUID(message.nonce) for message in sent(link, wire.Ping)]


def pong(link: FakeLink, ping_id: UUID, *, after_s: float) -> Received:
    """The answer as it arrives `after_s` from now."""
    return Received(link, (wire.Pong(nonce=ping_id.hex),), heard_at=time.monotonic() + after_s)


def test_the_gateway_measures_the_round_trip_itself(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    with pings.waiters.register(ping_id) as waiter:
        before = time.monotonic()
        cluster.step()
        after = time.monotonic()
        assert nonces(link) == [ping_id]
        assert not waiter.wait(0)
        answer = Received(link, (wire.Pong(nonce=ping_id.hex),), heard_at=after + 0.25)
        cluster.step(answer)
        assert waiter.wait(0)
    ended = pings.outcome(ping_id, patience_s=0, now=db.now())
    assert ended.response_time_ms is not None
    assert 250 <= ended.response_time_ms <= round(1000 * (answer.heard_at - before), 3)
    assert ended.failure == ""
    assert pings.last_response_time_ms("alice") == ended.response_time_ms


def test_a_ping_is_sent_once_to_its_device_only(cluster: Cluster) -> None:
    alice, bob = cluster.join("alice"), cluster.join("bob")
    ping_id = ask("alice")
    cluster.step()
    cluster.step()
    cluster.tick()
    assert (nonces(alice), nonces(bob)) == ([ping_id], [])


def test_a_missed_hint_costs_a_tick(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    cluster.tick()
    assert nonces(link) == [ping_id]


def test_another_device_cannot_answer(cluster: Cluster) -> None:
    alice, mallory = cluster.join("alice"), cluster.join("mallory")
    ping_id = ask("alice")
    cluster.step()
    cluster.step(pong(mallory, ping_id, after_s=0.1))
    assert Ping.objects.get(id=ping_id).ended_at is None
    cluster.step(pong(alice, uuid4(), after_s=0.1))
    assert Ping.objects.get(id=ping_id).ended_at is None


def test_an_answer_that_comes_too_late_changes_nothing(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    cluster.step()
    assert pings.outcome(ping_id, patience_s=0, now=db.now()).failure == pings.NO_ANSWER
    cluster.step(pong(link, ping_id, after_s=6))
    row = Ping.objects.get(id=ping_id)
    assert (row.response_time_ms, row.failure) == (None, pings.NO_ANSWER)


def test_a_second_answer_changes_nothing(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    cluster.step()
    cluster.step(pong(link, ping_id, after_s=0.1))
    before = Ping.objects.get(id=ping_id).response_time_ms
    cluster.step(pong(link, ping_id, after_s=0.9))
    assert Ping.objects.get(id=ping_id).response_time_ms == before


def test_a_ping_ends_with_the_connection(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    cluster.step()
    with pings.waiters.register(ping_id) as waiter:
        cluster.drop(link)
        assert waiter.wait(0)
    assert "connection was lost" in Ping.objects.get(id=ping_id).failure


def test_nobody_waits_for_an_old_ping_any_more(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    Ping.objects.filter(id=ping_id).update(requested_at=db.now() - timedelta(seconds=30))
    cluster.step()
    assert nonces(link) == []


def test_a_process_without_the_gateway_finds_the_answer_in_the_database(cluster: Cluster) -> None:
    link = cluster.join("alice")
    ping_id = ask("alice")
    cluster.step()
    Ping.objects.filter(id=ping_id).update(ended_at=db.now(), response_time_ms=7.5)
    with pings.waiters.register(ping_id) as waiter:
        pings.waiters.look()
        assert waiter.wait(0)
    assert nonces(link) == [ping_id]
