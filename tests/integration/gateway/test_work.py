"""A task's way through a gateway, on a real database: placed, accepted, finished, lost, taken back."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from clusterconfig.audit import Actor
from devices import presence
from devices.models import Device
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome, Verdict
from tasks import services, waiting
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def assigned(link: FakeLink) -> list[wire.Assign]:
    return sent(link, wire.Assign)


def success(attempt: str, text: str = '{"echo":1}') -> wire.Result:
    return wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, ran_s=0.1, result_json=text)


def test_a_task_is_placed_run_and_recorded(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    assert (order.task, order.payload_json) == (task_id.hex, '{"message": "hi"}')
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    assert status(task_id) == "running"
    cluster.say(link, success(order.attempt))
    (ack,) = sent(link, wire.ResultAck)
    assert ack == wire.ResultAck(attempt=order.attempt, verdict=Verdict.RECORDED)
    assert status(task_id) == "success"
    assert Attempt.objects.get(id=UUID(order.attempt)).result == '{"echo":1}'


def test_a_waiter_is_told(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    with waiting.register(task_id) as waiter:
        assert not waiter.wait(0)
        cluster.say(link, success(order.attempt))
        assert waiter.wait(0)


def test_a_freed_slot_is_filled_in_the_same_batch(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=1)
    submit(2)
    cluster.step()
    (first,) = assigned(link)
    cluster.say(link, success(first.attempt))
    kinds = [type(message) for message in link.sent if not isinstance(message, wire.Welcome)]
    assert kinds == [wire.ResultAck, wire.Assign]


def test_slots_are_never_exceeded(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=3)
    submit(10)
    cluster.step()
    cluster.step()
    assert len(assigned(link)) == 3


def test_requirements_decide_and_nobody_is_held_up(cluster: Cluster) -> None:
    small = cluster.join("small")
    tagged = cluster.join("tagged", tags=("gpu-capable",))
    (impossible,) = submit(priority="urgent", min_cpu_cores=64)
    (picky,) = submit(required_tags=("gpu-capable",))
    submit(3)
    cluster.step()
    assert status(impossible) == "queued"
    assert picky.hex in {order.task for order in assigned(tagged)}
    assert picky.hex not in {order.task for order in assigned(small)}
    reason = services.queue_reasons([Task.objects.get(id=impossible)])[impossible]
    assert "64 cores" in reason


def test_memory_is_reserved(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=4)
    submit(4, min_memory_gb=3)
    cluster.step()
    assert len(assigned(link)) == 2  # 8 GB less a tenth hold two, not four


def test_the_same_result_twice_changes_nothing(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, success(order.attempt))
    before = Task.objects.get(id=task_id).version
    cluster.say(link, success(order.attempt, '{"echo":2}'))
    assert [ack.verdict for ack in sent(link, wire.ResultAck)] == ["recorded", "recorded"]
    assert Task.objects.get(id=task_id).version == before
    assert Attempt.objects.get(task=task_id).result == '{"echo":1}'


def test_a_device_may_not_report_for_another(cluster: Cluster) -> None:
    alice = cluster.join("alice")
    mallory = cluster.join("mallory", role="storage")
    (task_id,) = submit(required_role="worker")
    cluster.step()
    (order,) = assigned(alice)
    cluster.say(mallory, success(order.attempt, '"forged"'))
    (ack,) = sent(mallory, wire.ResultAck)
    assert ack.verdict == "unknown"
    assert status(task_id) == "assigned"


def test_a_result_that_is_no_json_fails_its_task(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, success(order.attempt, '{"a": NaN'))
    attempt = Attempt.objects.get(task=task_id)
    assert (status(task_id), attempt.error_code) == ("failed", "RESULT_UNSTORABLE")


def test_a_lost_connection_keeps_the_attempt_for_a_while(cluster: Cluster) -> None:
    link = cluster.join("alice")
    secret = sent(link, wire.Welcome)[0].secret
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    cluster.drop(link)
    device = Device.objects.get(id="alice")
    assert (device.online, device.status_reason) == (False, "the connection was lost")
    held = (wire.Held(attempt=order.attempt, state=HeldState.RUNNING),)
    back = cluster.join("alice", secret=secret, held=held)
    assert status(task_id) == "running"
    cluster.say(back, success(order.attempt))
    assert status(task_id) == "success"
    assert Attempt.objects.filter(task=task_id).count() == 1


def test_a_device_that_forgot_its_task_loses_it(cluster: Cluster) -> None:
    link = cluster.join("alice")
    secret = sent(link, wire.Welcome)[0].secret
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    cluster.drop(link)
    cluster.join("alice", secret=secret)
    outcomes = list(Attempt.objects.filter(task=task_id).order_by("no").values_list("outcome", flat=True))
    assert outcomes == ["lost", ""]  # the only device there is gets it again


def test_an_expired_lease_moves_the_task_and_the_late_result_is_evidence(cluster: Cluster) -> None:
    alice = cluster.join("alice")
    secret = sent(alice, wire.Welcome)[0].secret
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(alice)
    cluster.say(alice, wire.Accepted(attempts=(order.attempt,)))
    cluster.drop(alice)
    cluster.tick()  # the first pass judges nothing
    Attempt.objects.filter(id=UUID(order.attempt)).update(lease_until=timezone.now() - timedelta(seconds=1))
    bob = cluster.join("bob")
    cluster.tick()
    (again,) = assigned(bob)
    assert again.task == task_id.hex
    cluster.say(bob, success(again.attempt, '"bob"'))
    held = (wire.Held(attempt=order.attempt, state=HeldState.FINISHED),)
    alice = cluster.join("alice", secret=secret, held=held)
    cluster.say(alice, success(order.attempt, '"alice"'))
    (ack,) = sent(alice, wire.ResultAck)
    assert ack.verdict == "superseded"
    recorded = Attempt.objects.get(task=task_id, outcome="success")
    assert (status(task_id), Task.objects.get(id=task_id).result_attempt) == ("success", recorded.id)
    assert recorded.result == '"bob"'
    assert "alice" in Attempt.objects.get(id=UUID(order.attempt)).late


def test_the_first_pass_judges_nothing(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    Attempt.objects.filter(id=UUID(order.attempt)).update(lease_until=timezone.now() - timedelta(days=3650))
    cluster.tick()
    assert status(task_id) == "running"
    assert Attempt.objects.get(id=UUID(order.attempt)).lease_until > timezone.now()


def test_at_most_once_waits_for_go(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit(loss="fail")
    cluster.step()
    (order,) = assigned(link)
    assert order.wait_for_go
    assert not sent(link, wire.Go)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    assert sent(link, wire.Go) == [wire.Go(attempts=(order.attempt,))]
    assert status(task_id) == "running"


def test_a_cancel_reaches_the_device_and_ends_when_it_says_so(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    assert services.cancel(task_id, actor=Actor("test")).status == "running"
    cluster.step()
    assert sent(link, wire.Cancel) == [wire.Cancel(attempt=order.attempt)]
    cluster.say(link, wire.Result(attempt=order.attempt, outcome=Outcome.CANCELLED))
    assert status(task_id) == "cancelled"


def test_a_failure_is_retried_after_its_back_off(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit(retries=1)
    cluster.step()
    (order,) = assigned(link)
    failed = wire.Result(attempt=order.attempt, outcome=Outcome.FAILED, error_message="boom")
    cluster.say(link, failed)
    assert status(task_id) == "pending"
    cluster.tick()
    Task.objects.filter(id=task_id).update(ready_at=timezone.now() - timedelta(seconds=1))
    cluster.tick()
    cluster.tick()
    (again,) = assigned(link)
    cluster.say(link, success(again.attempt))
    assert (status(task_id), Attempt.objects.filter(task=task_id).count()) == ("success", 2)


def test_a_goodbye_hands_work_back_free_of_charge(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    cluster.step()
    (order,) = assigned(link)
    cluster.say(link, wire.Accepted(attempts=(order.attempt,)))
    cluster.drop(link, orderly=True)
    task = Task.objects.get(id=task_id)
    assert (task.status, task.losses) == ("queued", 0)


def test_a_wrong_token_is_refused(cluster: Cluster) -> None:
    link = cluster.join("alice", join_token="rcj1_wrong")
    assert link.goodbye is not None
    assert link.goodbye.code == "bad_token"
    assert not Device.objects.exists()


def test_a_known_id_needs_its_secret_once_it_was_used(cluster: Cluster) -> None:
    link = cluster.join("alice")
    again = cluster.join("alice")  # the welcome may have been lost
    assert again.goodbye is None
    assert link.goodbye is not None
    cluster.say(again, wire.Heartbeat())
    thief = cluster.join("alice")
    assert thief.goodbye is not None
    assert thief.goodbye.code == "device_id_taken"


def test_heartbeats_are_answered_and_counted(cluster: Cluster) -> None:
    link = cluster.join("hearty")
    cluster.say(link, wire.Heartbeat(metrics=wire.Metrics(cpu_percent=12.0)))
    assert sent(link, wire.HeartbeatAck)
    view = presence.latest(["hearty"])["hearty"]
    assert (view.heartbeats, view.metrics["cpu_percent"]) == (1, 12.0)
