"""A change of the configuration reaches every connected agent, once; max_connections keeps the next one out."""

import pytest
from django.utils import timezone

from clusterconfig import services as config
from clusterconfig.audit import SYSTEM
from retire_cluster import hints
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink, sent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def change(section: str, **values: int) -> None:
    config.change(section, values, actor=SYSTEM, now=timezone.now())


def told(link: FakeLink) -> list[float]:
    return [message.pulse.interval_s for message in sent(link, wire.Config)]


def test_a_change_reaches_every_agent_once(cluster: Cluster) -> None:
    alice, bob = cluster.join("alice"), cluster.join("bob")
    change("heartbeat", interval=7)
    cluster.committer._spread_config()
    assert (told(alice), told(bob)) == ([7], [7])
    cluster.committer._spread_config()
    assert told(alice) == []


def test_the_hint_of_a_change_is_enough(cluster: Cluster) -> None:
    link = cluster.join("alice")
    cluster.committer._next_tick = float("inf")  # no tick comes to help
    unsubscribe = hints.subscribe(cluster.committer.hint)
    change("heartbeat", interval=9)
    unsubscribe()
    cluster.committer._step([])
    assert told(link) == [9]


def test_an_agent_that_joins_later_is_welcomed_with_it(cluster: Cluster) -> None:
    change("heartbeat", interval=7)
    link = cluster.join("alice")
    (welcome,) = sent(link, wire.Welcome)
    assert welcome.pulse.interval_s == 7
    cluster.committer._spread_config()
    assert told(link) == []


def test_max_connections_keeps_the_next_one_out_and_nobody_else(cluster: Cluster) -> None:
    alice, bob = cluster.join("alice"), cluster.join("bob")
    change("server", max_connections=1)
    cluster.tick()
    assert (alice.goodbye, bob.goodbye) == (None, None)  # lowering it throws nobody out

    carol = cluster.join("carol")
    assert carol.goodbye is not None
    assert carol.goodbye.code == "full"
    assert "server.max_connections" in carol.goodbye.reason

    cluster.drop(alice)
    cluster.drop(bob)
    assert cluster.join("carol").goodbye is None
