"""A device that is removed for good: its work goes to others, its agent is told, its secret opens nothing."""

from typing import Any
from uuid import UUID

import pytest

from clusterconfig.audit import Actor
from clusterconfig.models import AuditEntry
from devices import operations
from devices.models import Device
from retire_cluster.gateway.inputs import Received
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState
from tasks import services, waiting
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("user:ann", "192.0.2.1", "00000000-0000-0000-0000-000000000001")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def join(cluster: Cluster, device_id: str, **more: Any) -> tuple[FakeLink, str | None]:
    """A connected agent and the secret it was given."""
    link = cluster.join(device_id, **more)
    (welcome,) = sent(link, wire.Welcome)
    return link, welcome.secret


def run_one(cluster: Cluster, link: FakeLink, **how: Any) -> tuple[UUID, str]:
    """A task that runs on the device, and its attempt."""
    (task_id,) = submit(**how)
    cluster.step()
    (order,) = sent(link, wire.Assign)
    attempt: str = order.attempt
    cluster.say(link, wire.Accepted(attempts=(attempt,)))
    assert status(task_id) == "running"
    return task_id, attempt


def test_its_tasks_are_requeued_at_once_and_free_of_charge(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, _ = run_one(cluster, link)

    removal = operations.remove("alice", actor=ANN)

    task = Task.objects.get(id=task_id)
    assert removal.was_online
    assert (task.status, task.losses, task.failures) == ("queued", 0, 0)
    other = cluster.join("bob")
    assert [order.task for order in sent(other, wire.Assign)] == [task_id.hex]


def test_the_agent_is_told_once_and_loses_its_session(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    operations.remove("alice", actor=ANN)
    cluster.step()
    assert link.goodbye is not None
    assert link.goodbye.code == "revoked"
    assert cluster.committer.sessions.all() == []
    link.goodbye = None
    cluster.step()
    cluster.tick()
    assert link.goodbye is None


def test_a_missed_hint_costs_a_tick(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    operations.remove("alice", actor=ANN)
    cluster.tick()
    assert link.goodbye is not None


def test_its_secret_opens_nothing_any_more(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    cluster.say(link, wire.Heartbeat())
    operations.remove("alice", actor=ANN)
    cluster.step()
    for how in ({"secret": secret}, {"secret": secret, "rejoin": True}, {}):
        back = cluster.join("alice", **how)
        assert back.goodbye is not None
        assert back.goodbye.code == "revoked"


def test_it_comes_back_with_a_token_and_leave_to_rejoin(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    cluster.say(link, wire.Heartbeat())
    operations.drain("alice", reason="old", deadline_s=0, actor=ANN)
    operations.remove("alice", actor=ANN)
    cluster.step()

    back, fresh = join(cluster, "alice", rejoin=True)

    device = Device.objects.get(id="alice")
    assert back.goodbye is None
    assert fresh != secret
    assert (device.online, device.removed_at, device.cordoned, device.draining) == (True, None, False, False)
    cluster.tick()
    assert back.goodbye is None


def test_what_must_not_run_twice_fails(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, _ = run_one(cluster, link, loss="fail")
    with waiting.register(task_id) as waiter:
        operations.remove("alice", actor=ANN)
        assert waiter.wait(0)
    assert status(task_id) == "failed"
    assert Attempt.objects.get(task=task_id).error_code == "DEVICE_LOST"


def test_what_was_only_offered_may_run_elsewhere_whatever_its_policy(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    (task_id,) = submit(loss="fail")
    cluster.step()
    assert sent(link, wire.Assign)
    operations.remove("alice", actor=ANN)
    assert status(task_id) == "queued"


def test_what_is_being_cancelled_is_cancelled(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    services.cancel(task_id, actor=Actor("ann"))
    operations.remove("alice", actor=ANN)
    assert status(task_id) == "cancelled"
    assert Attempt.objects.get(id=UUID(attempt)).confirmed is False


def test_work_that_its_agent_claims_again_before_the_gateway_knows_stays_in_the_queue(
    cluster: Cluster,
) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    operations.remove("alice", actor=ANN)
    held = wire.Held(attempt=attempt, state=HeldState.RUNNING)
    # The heartbeat is there before the hint.
    heartbeat = Received(link, (wire.Heartbeat(held=(held,)),))
    cluster.committer._persist([heartbeat], tick=False, place=False, intents=False)
    assert status(task_id) == "queued"
    assert [stop.attempts for stop in sent(link, wire.Stop)] == [(attempt,)]
    assert link.goodbye is None
    cluster.step()
    assert link.goodbye is not None


def test_work_that_its_agent_claims_again_before_the_goodbye_goes_back(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    operations.remove("alice", actor=ANN)
    held = wire.Held(attempt=attempt, state=HeldState.RUNNING)
    cluster.say(link, wire.Heartbeat(held=(held,)))  # in the batch in which the gateway notices
    task = Task.objects.get(id=task_id)
    assert (task.status, task.losses) == ("queued", 0)
    assert link.goodbye is not None


def test_a_device_that_is_offline_is_removed_as_well(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, _ = run_one(cluster, link)
    cluster.drop(link)
    removal = operations.remove("alice", actor=ANN)
    assert not removal.was_online
    assert status(task_id) == "queued"
    cluster.step()
    assert Device.objects.get(id="alice").gateway_id is None


def test_a_removal_is_on_record_and_happens_once(cluster: Cluster) -> None:
    join(cluster, "alice")
    operations.remove("alice", actor=ANN)
    entry = AuditEntry.objects.get(action="device.remove")
    assert (entry.actor, entry.target, entry.details) == ("user:ann", "alice", {"was_online": True})
    with pytest.raises(Device.DoesNotExist):
        operations.remove("alice", actor=ANN)
