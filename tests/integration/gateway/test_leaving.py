"""A device that leaves by itself: as removed by an operator, and it is told that it is so."""

from typing import Any
from uuid import UUID

import pytest

from clusterconfig.audit import Actor
from clusterconfig.models import AuditEntry
from devices import operations
from devices.models import Device
from retire_cluster.gateway.inputs import Received
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome, Verdict
from tasks.models import Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def join(cluster: Cluster, device_id: str) -> tuple[FakeLink, str]:
    """A connected agent that stored its secret."""
    link = cluster.join(device_id)
    (welcome,) = sent(link, wire.Welcome)
    assert welcome.secret is not None
    cluster.say(link, wire.Heartbeat())
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


def test_it_is_removed_and_told_so(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    cluster.say(link, wire.Leave())
    device = Device.objects.get(id="alice")
    assert link.goodbye is not None
    assert link.goodbye.code == "left"
    assert (device.online, device.status_reason, device.gateway_id) == (False, operations.LEFT, None)
    assert device.removed_at is not None
    assert cluster.committer.sessions.all() == []
    back = cluster.join("alice", secret=secret)
    assert back.goodbye is not None
    assert back.goodbye.code == "revoked"


def test_it_is_on_record_once_and_the_clock_has_nothing_to_add(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    cluster.say(link, wire.Leave(), wire.Leave())
    link.goodbye = None
    cluster.step()
    cluster.tick()
    entry = AuditEntry.objects.get(action="device.leave")
    assert (entry.actor, entry.address) == ("device:alice", link.address)
    assert (entry.target, entry.details) == ("alice", {"was_online": True})
    assert link.goodbye is None


def test_what_it_runs_goes_to_another_device_at_once_and_free_of_charge(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, _ = run_one(cluster, link)
    other, _ = join(cluster, "bob")
    cluster.say(link, wire.Leave())
    assert [order.task for order in sent(other, wire.Assign)] == [task_id.hex]
    task = Task.objects.get(id=task_id)
    assert (task.losses, task.failures) == (0, 0)


def test_a_result_before_it_counts(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    result = wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="1")
    cluster.say(link, result, wire.Leave())
    assert status(task_id) == "success"
    assert [ack.verdict for ack in sent(link, wire.ResultAck)] == [Verdict.RECORDED]


def test_what_it_says_afterwards_in_the_same_batch_changes_nothing(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    held = wire.Held(attempt=attempt, state=HeldState.RUNNING)
    cluster.step(Received(link, (wire.Leave(),)), Received(link, (wire.Heartbeat(held=(held,)),)))
    assert status(task_id) == "queued"
    assert Device.objects.get(id="alice").removed_at is not None


def test_in_the_clocks_own_batch_too(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, _ = run_one(cluster, link)
    frame = Received(link, (wire.Leave(),))
    cluster.committer._persist([frame], tick=True, place=True, intents=True)
    assert status(task_id) == "queued"
    assert link.goodbye is not None
    assert link.goodbye.code == "left"


def test_an_operator_who_was_faster_changes_nothing_for_it(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    operations.remove("alice", actor=Actor("user:ann"))
    frame = Received(link, (wire.Leave(),))
    cluster.committer._persist([frame], tick=False, place=False, intents=False)
    assert link.goodbye is not None
    assert link.goodbye.code == "left"
    assert not AuditEntry.objects.filter(action="device.leave").exists()


def test_it_comes_back_with_a_token_alone_as_what_an_operator_removed_does_not(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    cluster.say(link, wire.Leave())
    again = cluster.join("alice")
    assert again.goodbye is None
    assert sent(again, wire.Welcome)[0].secret is not None
    device = Device.objects.get(id="alice")
    assert (device.online, device.removed_at, device.left) == (True, None, False)

    operations.remove("alice", actor=Actor("user:ann"))
    refused = cluster.join("alice")
    assert refused.goodbye is not None
    assert refused.goodbye.code == "revoked"
