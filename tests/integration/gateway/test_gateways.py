"""Several gateways on one database: one that dies without a word is found, one that was only silent begins anew."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from devices.models import Device, Gateway
from retire_cluster import db
from retire_cluster.protocol import messages as wire
from tasks import sweep
from tasks.models import Attempt
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    """A gateway that knows of others, beyond its first, blind pass."""
    found = Cluster()
    found.committer._shares = True
    found.tick()
    return found


def another_gateway(silent_for_s: float) -> UUID:
    seen = db.now() - timedelta(seconds=silent_for_s)
    return Gateway.objects.create(
        id=uuid4(), host="192.0.2.1", port=8080, tls=True, started_at=seen, seen_at=seen
    ).id


def call(cluster: Cluster) -> None:
    """The next roll call, now."""
    cluster.committer._next_call = 0.0
    cluster.tick()


def running(cluster: Cluster, loss: str = "requeue") -> tuple[FakeLink, str]:
    """A device with a task; its connection and the attempt."""
    link = cluster.join("alice")
    submit(loss=loss)
    cluster.step()
    (order,) = sent(link, wire.Assign)
    assert isinstance(order, wire.Assign)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    return link, order.attempt


def moved_to(gateway_id: UUID) -> datetime:
    """As if the device were connected to the other gateway; the lease of what it runs."""
    Device.objects.update(gateway=gateway_id)
    return Attempt.objects.get().lease_until


def test_a_gateway_says_that_it_lives(cluster: Cluster) -> None:
    before = db.now()
    call(cluster)
    seen = Gateway.objects.get().seen_at
    assert seen is not None
    assert seen >= before


def test_devices_of_a_gateway_that_died_are_offline_and_their_work_has_half_a_minute(
    cluster: Cluster,
) -> None:
    running(cluster)
    dead = another_gateway(silent_for_s=16)
    assert moved_to(dead) > db.now() + timedelta(seconds=60)

    before = db.now()
    call(cluster)

    device = Device.objects.get()
    assert (device.online, device.status_reason) == (False, "its gateway died")
    assert Gateway.objects.get(id=dead).stopped_at is not None
    given = Attempt.objects.get().lease_until - timedelta(seconds=sweep.FLOOR_S)
    assert before <= given <= db.now()


def test_a_gateway_that_spoke_lately_is_left_alone(cluster: Cluster) -> None:
    running(cluster)
    lease = moved_to(another_gateway(silent_for_s=5))
    call(cluster)
    assert Device.objects.get().online
    assert Attempt.objects.get().lease_until == lease


def test_a_device_comes_back_through_another_gateway_with_what_it_runs(cluster: Cluster) -> None:
    link, attempt = running(cluster)
    dead = another_gateway(silent_for_s=16)
    moved_to(dead)
    call(cluster)
    secret = next(message.secret for message in link.sent if isinstance(message, wire.Welcome))
    held = (wire.Held(attempt=attempt, state="running", age_s=5.0),)  # type: ignore[arg-type]
    again = cluster.join("alice", secret=secret, held=held)
    assert not sent(again, wire.Stop)
    assert Attempt.objects.get().state == "running"
    assert Device.objects.get().gateway_id == cluster.committer._identity.gateway_id


def test_a_gateway_that_was_given_up_sends_its_devices_to_connect_anew(cluster: Cluster) -> None:
    link, _ = running(cluster)
    own = cluster.committer._identity.gateway_id
    Gateway.objects.filter(id=own).update(stopped_at=db.now())

    call(cluster)

    assert link.goodbye is not None
    assert link.goodbye.code == "unavailable"
    assert cluster.committer.sessions.all() == []
    assert Gateway.objects.get(id=own).stopped_at is None
    call(cluster)
    assert Gateway.objects.get(id=own).seen_at is not None


def test_without_any_gateway_the_celery_sweep_finds_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(cluster)
    moved_to(another_gateway(silent_for_s=16))
    monkeypatch.setattr(sweep._watch, "blind", lambda *_: False)
    sweep.run_elsewhere()
    assert not Device.objects.get().online
