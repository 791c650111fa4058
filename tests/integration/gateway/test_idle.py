"""A second in which nothing happens: one look at the database, until something does."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig import services as config
from clusterconfig.audit import SYSTEM
from clusterconfig.models import ConfigSection
from devices import operations, pings, presence, samples
from devices.models import Device, Gateway
from devices.services import GATEWAY_SILENCE
from retire_cluster import db
from retire_cluster.gateway.committer import CALL_S, PRESENCE_FLUSH_S
from retire_cluster.gateway.inputs import Input, Received
from retire_cluster.protocol import messages as wire
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(presence, "_memory", {})  # of devices of other tests
    monkeypatch.setattr(presence, "_changed", set())
    monkeypatch.setattr(samples, "flush", lambda *_, **__: 0)  # should a quarter of an hour end meanwhile
    monkeypatch.setattr(config, "CACHE_S", 3600.0)  # a step that takes longer reads the settings again
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


def second(cluster: Cluster, *inputs: Input) -> list[str]:
    """A tick nobody gave a hint before; what it asked."""
    cluster.committer._next_tick = 0.0
    cluster.committer._hinted.clear()
    cluster.committer._intended.clear()
    with CaptureQueriesContext(connection) as asked:
        cluster.committer._step(inputs)
    return [str(query["sql"]) for query in asked]  # None for one that is prepared and has no values


@pytest.mark.usefixtures("link")
def test_a_second_of_rest_costs_one_statement(cluster: Cluster) -> None:
    assert len(second(cluster)) == 1
    assert len(second(cluster)) == 1


@pytest.mark.usefixtures("link")
def test_a_sign_of_life_to_the_other_gateways_costs_two_statements_more(cluster: Cluster) -> None:
    cluster.committer._shares = True
    cluster.committer._next_call = 0.0
    assert len(second(cluster)) == 3
    cluster.committer._next_call = float("inf")
    assert len(second(cluster)) == 1


def test_a_minute_of_rest_costs_less_than_two_statements_a_second(cluster: Cluster) -> None:
    """With many devices: as the gateway's own periods have it, all that is due falls due."""
    committer = cluster.committer
    committer._shares = True
    names = [f"device-{number}" for number in range(20)]
    links = [cluster.join(name) for name in names]
    for link in links:
        cluster.say(link, wire.Heartbeat())
    presence.flush()
    flush_s = PRESENCE_FLUSH_S["postgresql"]
    asked: list[str] = []
    for number in range(60):
        beats = [Received(link, (wire.Heartbeat(),)) for link in links[number % 2 :: 2]]
        committer._next_depth = 0.0 if number == 30 else float("inf")
        committer._next_call = 0.0 if number % CALL_S == 0 else float("inf")
        committer._next_flush = 0.0 if number % flush_s == 0 else float("inf")
        asked += second(cluster, *beats)

    looks, calls, depths = 60, 2 * 12, 2
    writes = 4 if connection.vendor == "postgresql" else 4 * 3  # of all devices; within BEGIN and COMMIT
    assert len(asked) == looks + calls + depths + writes < 2 * 60
    assert {view.heartbeats for view in presence.latest(names).values()} == {31}


def test_settings_that_another_process_changed_are_told_in_the_next_second(
    cluster: Cluster, link: FakeLink
) -> None:
    second(cluster)
    ConfigSection.objects.update_or_create(
        name="heartbeat", defaults={"values": {"interval": 7}, "version": 1000, "changed_at": db.now()}
    )
    second(cluster)
    (told,) = sent(link, wire.Config)
    assert told.pulse.interval_s == 7


@pytest.mark.parametrize("silent_for_s", [5, 60])
def test_a_silent_gateway_is_found_while_this_one_rests(cluster: Cluster, silent_for_s: float) -> None:
    cluster.committer._shares = True
    cluster.committer._next_call = 0.0
    seen = db.now() - timedelta(seconds=silent_for_s)
    other = Gateway.objects.create(
        id=uuid4(), host="192.0.2.1", port=1, tls=True, started_at=seen, seen_at=seen
    )
    second(cluster)
    other.refresh_from_db()
    assert (other.stopped_at is not None) == (silent_for_s > GATEWAY_SILENCE.total_seconds())


def test_a_gateway_that_others_gave_up_begins_anew_while_it_rests(cluster: Cluster, link: FakeLink) -> None:
    cluster.committer._shares = True
    second(cluster)
    Gateway.objects.update(stopped_at=db.now())
    cluster.committer._next_call = 0.0
    second(cluster)
    assert link.goodbye is not None
    assert Gateway.objects.get().stopped_at is None


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
