"""A second in which nothing happens: one look at the database, until something does."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig.audit import SYSTEM
from devices import operations, pings
from devices.models import Device
from retire_cluster import db
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    found.tick()
    found.committer._next_call = found.committer._next_flush = found.committer._next_depth = float("inf")
    return found


@pytest.fixture
def link(cluster: Cluster) -> FakeLink:
    link = cluster.join("alice")
    cluster.say(link, wire.Heartbeat())
    cluster.tick()
    link.sent.clear()
    return link


def second(cluster: Cluster) -> list[str]:
    """A tick nobody gave a hint before; what it asked."""
    cluster.committer._next_tick = 0.0
    cluster.committer._hinted.clear()
    cluster.committer._intended.clear()
    with CaptureQueriesContext(connection) as asked:
        cluster.committer._step([])
    found = [str(query["sql"]) for query in asked]  # None for one that is prepared and has no values
    return [sql for sql in found if "clusterconfig_configsection" not in sql]


@pytest.mark.usefixtures("link")
def test_a_second_of_rest_costs_one_statement(cluster: Cluster) -> None:
    assert len(second(cluster)) == 1
    assert len(second(cluster)) == 1


WISHES: dict[str, tuple[Callable[[], object], type[wire.Message]]] = {
    "a task": (lambda: submit(), wire.Assign),
    "a ping": (lambda: pings.request(pings.new_id(), "alice", now=db.now()), wire.Ping),
    "a removal": (lambda: operations.remove("alice", actor=SYSTEM), wire.Goodbye),
}


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_wanted_while_it_rests_is_done_in_the_next_second(
    cluster: Cluster, link: FakeLink, wish: str
) -> None:
    want, kind = WISHES[wish]
    second(cluster)
    want()
    second(cluster)
    assert link.goodbye if kind is wire.Goodbye else sent(link, kind)


def test_a_drain_without_work_is_over_in_time(cluster: Cluster, link: FakeLink) -> None:
    Device.objects.filter(id="alice").update(draining=True, drain_deadline=db.now() - timedelta(seconds=1))
    assert len(second(cluster)) > 1


def test_a_jump_of_the_clock_is_seen_while_it_rests(cluster: Cluster, link: FakeLink) -> None:
    second(cluster)
    cluster.committer._watch._last = (db.now() - timedelta(hours=1), cluster.committer.last_tick)
    assert len(second(cluster)) > 1
