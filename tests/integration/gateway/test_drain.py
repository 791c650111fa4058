"""Devices out of service: nothing new is placed; a drain's deadline takes away what still runs."""

from uuid import UUID

import pytest

from clusterconfig.audit import SYSTEM, Actor
from devices import operations
from devices.models import Device
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState
from tasks import services
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit
from tests.integration.gateway.test_removal import run_one

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def drain(device_id: str = "alice", deadline_s: int | None = 0) -> Device:
    return operations.drain(device_id, reason="repair", deadline_s=deadline_s, actor=SYSTEM)


def stops(link: FakeLink) -> list[str]:
    return [attempt for message in sent(link, wire.Stop) for attempt in message.attempts]


def holds(attempt: str) -> wire.Heartbeat:
    return wire.Heartbeat(held=(wire.Held(attempt=attempt, state=HeldState.RUNNING),))


def test_a_cordon_takes_effect_with_the_next_placement(cluster: Cluster) -> None:
    link = cluster.join("alice")
    operations.cordon("alice", reason="", actor=SYSTEM)
    (task_id,) = submit()
    cluster.step()
    assert (status(task_id), sent(link, wire.Assign)) == ("queued", [])

    operations.uncordon("alice", reason="", actor=SYSTEM)
    cluster.step()
    assert len(sent(link, wire.Assign)) == 1


def test_a_cordon_leaves_alone_what_runs(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, _ = run_one(cluster, link)
    operations.cordon("alice", reason="", actor=SYSTEM)
    cluster.tick()
    assert (status(task_id), stops(link)) == ("running", [])


def test_a_drain_without_a_deadline_waits_for_ever(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, _ = run_one(cluster, link)
    drain(deadline_s=None)
    cluster.tick()
    assert (status(task_id), stops(link)) == ("running", [])


def test_before_its_deadline_a_drain_waits(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, _ = run_one(cluster, link)
    drain(deadline_s=60)
    cluster.tick()
    assert (status(task_id), stops(link)) == ("running", [])


def test_after_its_deadline_work_moves_on_free_of_charge(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, attempt = run_one(cluster, link)
    bob = cluster.join("bob")
    drain()
    cluster.step()

    task = Task.objects.get(id=task_id)
    assert (task.status, task.device_id, task.losses) == ("assigned", "bob", 0)
    assert stops(link) == [attempt]
    assert len(sent(bob, wire.Assign)) == 1
    cluster.say(link, wire.Stopped(attempts=(attempt,)))
    assert Attempt.objects.get(id=UUID(attempt)).confirmed is True


def test_an_agent_slow_to_stop_is_told_again_and_not_believed(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, attempt = run_one(cluster, link)
    drain()
    cluster.step()
    assert stops(link) == [attempt]
    cluster.say(link, holds(attempt))
    assert (status(task_id), stops(link)) == ("queued", [attempt])


def test_after_a_reconnect_the_work_is_taken_away_again(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (welcome,) = sent(link, wire.Welcome)
    task_id, attempt = run_one(cluster, link)
    drain()
    cluster.step()
    cluster.drop(link)
    back = cluster.join(
        "alice",
        secret=welcome.secret,
        held=(wire.Held(attempt=attempt, state=HeldState.RUNNING),),
    )
    cluster.tick()
    assert (status(task_id), stops(back)) == ("queued", [attempt])
    assert Task.objects.get(id=task_id).losses == 0


def test_a_result_that_overtakes_the_stop_counts(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, attempt = run_one(cluster, link)
    drain()
    cluster.step()
    result = wire.Result(attempt=attempt, outcome="success", result_json='{"done": 1}')  # type: ignore[arg-type]
    cluster.say(link, result)
    assert status(task_id) == "success"


def test_what_must_not_run_twice_and_what_is_being_cancelled_stay(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=2)
    once, _ = run_one(cluster, link, loss="fail")
    cancelled, _ = run_one(cluster, link)
    services.cancel(cancelled, actor=Actor("ann"))
    drain()
    cluster.step()
    assert (status(once), status(cancelled), stops(link)) == ("running", "running", [])


def test_uncordon_ends_a_drain(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, _ = run_one(cluster, link)
    drain(deadline_s=60)
    operations.uncordon("alice", reason="", actor=SYSTEM)
    cluster.tick()
    assert status(task_id) == "running"
    device = Device.objects.get(id="alice")
    assert (device.cordoned, device.draining, device.cordon_reason) == (False, False, "")
