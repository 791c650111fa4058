"""The server holds connected devices to time limits and cancels, on its own clock; leases judge the others."""

import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from clusterconfig.audit import Actor
from clusterconfig.models import AuditEntry
from devices import operations
from devices.models import Device
from retire_cluster.gateway import deadlines
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome
from tasks import services
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status
from tests.integration.gateway.test_removal import join, run_one

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("ann")
LIMIT_S = 311.0  # of a task with the default time limit of 300 s


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.tick()  # the first pass judges nothing
    return cluster


def wait(cluster: Cluster, seconds: float, *, silent: bool = False) -> None:
    """So much later, as the gateway's memory has it; devices that are not silent were heard of just now."""
    memory = cluster.committer._deadlines
    for times in (memory._over_at, memory._told_at):
        times.update((attempt, moment - seconds) for attempt, moment in times.items())
    for session in cluster.committer.sessions.all():
        session.opened_at -= seconds
        session.link.last_heard = session.link.last_heard - seconds if silent else time.monotonic()


def holds(attempt: str = "", state: HeldState = HeldState.RUNNING) -> wire.Heartbeat:
    """A heartbeat that lists the attempt, if one is given."""
    held = (wire.Held(attempt=attempt, state=state),) if attempt else ()
    return wire.Heartbeat(held=held)


def cancels(link: FakeLink) -> list[tuple[str, str]]:
    return [(item.attempt, item.reason) for item in sent(link, wire.Cancel)]


def test_a_device_that_is_silent_about_an_attempt_is_told_that_its_time_is_over(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S - 9)
    cluster.tick()
    assert cancels(link) == []
    wait(cluster, 9)
    cluster.tick()
    cluster.tick()
    assert cancels(link) == [(attempt, "timeout")]
    assert status(task_id) == "running"
    cluster.say(link, wire.Result(attempt=attempt, outcome=Outcome.TIMEOUT))
    assert (status(task_id), Device.objects.get(id="alice").cordoned) == ("timeout", False)


def test_it_is_told_again_with_every_heartbeat(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    _, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    cancels(link)
    cluster.say(link, holds(attempt))
    assert cancels(link) == [(attempt, "timeout")]


def test_what_it_does_not_end_then_is_a_timeout_and_the_device_is_out_of_service(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    wait(cluster, 20)
    cluster.say(link, holds(attempt))
    cluster.tick()
    assert status(task_id) == "running"
    wait(cluster, 10)
    cluster.tick()

    row, device = Attempt.objects.get(task=task_id), Device.objects.get(id="alice")
    assert (status(task_id), row.outcome, row.reason) == ("timeout", "timeout", "the agent did not stop it")
    assert (device.cordoned, device.online, link.goodbye) == (True, True, None)
    assert str(task_id) in device.cordon_reason
    entry = AuditEntry.objects.get(action="device.cordon")
    assert (entry.actor, entry.target) == ("system", "alice")
    assert [item.attempts for item in sent(link, wire.Stop)] == [(attempt,)]
    cluster.say(link, holds(attempt))
    assert [item.attempts for item in sent(link, wire.Stop)] == [(attempt,)]


def test_its_late_result_changes_nothing(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    wait(cluster, 30)
    cluster.tick()
    before = Task.objects.get(id=task_id).version
    cluster.say(link, wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="1"))
    assert [ack.verdict for ack in sent(link, wire.ResultAck)] == ["superseded"]
    assert (status(task_id), Task.objects.get(id=task_id).version) == ("timeout", before)


def test_a_cancel_shows_as_requested_until_it_is_confirmed_or_given_up(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    services.cancel(task_id, actor=ANN)
    cluster.tick()
    assert cancels(link) == [(attempt, "user")]
    wait(cluster, 20)
    cluster.say(link, holds(attempt))
    cluster.tick()
    task = Task.objects.get(id=task_id)
    assert (task.status, task.cancel_requested_at is not None) == ("running", True)
    wait(cluster, 10)
    cluster.tick()

    row, device = Attempt.objects.get(task=task_id), Device.objects.get(id="alice")
    assert (status(task_id), row.outcome, row.confirmed) == ("cancelled", "cancelled", False)
    assert (device.cordoned, device.online) == (True, False)
    assert link.goodbye is not None
    assert cluster.committer.sessions.all() == []


def test_its_other_work_survives_the_closed_connection(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    task_id, _ = run_one(cluster, link)
    other_id, other = run_one(cluster, link)
    services.cancel(task_id, actor=ANN)
    cluster.tick()
    cluster.say(link, holds(other))
    # The heartbeat did not list the cancelled one, which is an end as well.
    assert (status(task_id), status(other_id)) == ("cancelled", "running")
    third_id, third = run_one(cluster, link)
    services.cancel(third_id, actor=ANN)
    cluster.tick()
    both = tuple(wire.Held(attempt=item, state=HeldState.RUNNING) for item in (other, third))
    link.last_heard = time.monotonic()
    cluster.say(link, wire.Heartbeat(held=both))
    wait(cluster, 31)
    cluster.tick()
    assert (status(third_id), status(other_id)) == ("cancelled", "running")
    back = cluster.join("alice", secret=secret, held=both)
    assert status(other_id) == "running"
    assert [item.attempts for item in sent(back, wire.Stop)] == [(third,)]


def test_a_device_that_is_not_heard_of_is_left_to_its_lease(cluster: Cluster) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    services.cancel(task_id, actor=ANN)
    cluster.tick()
    assert sent(link, wire.Ping)
    wait(cluster, 100, silent=True)
    cluster.tick()
    assert (status(task_id), Device.objects.get(id="alice").cordoned) == ("running", False)
    link.last_heard = time.monotonic()
    cluster.say(link, wire.Pong(nonce="0" * 32))
    cluster.tick()
    assert (status(task_id), Device.objects.get(id="alice").cordoned) == ("cancelled", True)
    assert attempt


def test_a_device_that_comes_back_gets_time_to_send_what_it_did(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    cluster.drop(link)
    wait(cluster, 100)
    held = (wire.Held(attempt=attempt, state=HeldState.FINISHED),)
    back = cluster.join("alice", secret=secret, held=held)
    cluster.tick()
    assert status(task_id) == "running"
    cluster.say(back, wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="1"))
    assert (status(task_id), Device.objects.get(id="alice").cordoned) == ("success", False)


def test_connecting_anew_again_and_again_gains_no_more_than_a_lease(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    for _ in range(8):
        wait(cluster, 29)
        link = cluster.join(
            "alice", secret=secret, held=(wire.Held(attempt=attempt, state=HeldState.RUNNING),)
        )
        link.last_heard = time.monotonic()
        cluster.tick()
    assert (status(task_id), Device.objects.get(id="alice").cordoned) == ("timeout", True)


def test_a_restarted_gateway_reads_the_deadline_from_the_rows_and_gives_the_device_its_time_anew(
    cluster: Cluster,
) -> None:
    link, secret = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    Attempt.objects.update(accepted_at=timezone.now() - timedelta(hours=1))
    restarted = Cluster()
    back = restarted.join("alice", secret=secret, held=(wire.Held(attempt=attempt, state=HeldState.RUNNING),))
    restarted.tick()
    assert cancels(back) == []  # blind
    restarted.tick()
    assert cancels(back) == [(attempt, "timeout")]
    assert status(task_id) == "running"
    wait(restarted, 31)
    restarted.say(back, holds(attempt))
    restarted.tick()
    assert status(task_id) == "timeout"


def test_a_jump_of_the_server_s_clock_ends_nothing(cluster: Cluster) -> None:
    link, secret = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    Attempt.objects.update(accepted_at=timezone.now() - timedelta(days=3650))
    # The row is read and stored again, with a time that makes no sense any more.
    back = cluster.join("alice", secret=secret, held=holds(attempt).held)
    for _ in range(3):
        cluster.say(back, holds(attempt))
        cluster.tick()
    assert (status(task_id), cancels(back)) == ("running", [])


def test_after_a_pause_of_the_gateway_nobody_is_judged_by_the_time_it_did_not_listen(
    cluster: Cluster,
) -> None:
    link, _ = join(cluster, "alice")
    task_id, attempt = run_one(cluster, link)
    wait(cluster, LIMIT_S)
    cluster.tick()
    wait(cluster, 60)
    link.last_heard = time.monotonic()
    cluster.committer._watch.blind(timezone.now() - timedelta(hours=1), 0.0)
    cluster.tick()  # blind
    cluster.tick()
    assert status(task_id) == "running"
    cluster.say(link, wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="1"))
    assert status(task_id) == "success"


def test_a_reason_is_on_record_once_whoever_cordoned_before(cluster: Cluster) -> None:
    from devices import services as devices

    join(cluster, "alice")
    operations.cordon("alice", reason="repair", actor=ANN)
    for _ in range(3):
        devices.take_out_of_service("alice", reason="x" * 600, now=timezone.now())
    assert Device.objects.get(id="alice").cordon_reason == "x" * 500
    actors = AuditEntry.objects.filter(action="device.cordon").order_by("id").values_list("actor", flat=True)
    assert list(actors) == ["ann", "system"]


def test_what_ended_elsewhere_is_forgotten() -> None:
    kept = deadlines.Deadlines()
    attempt = UUID(int=1)
    kept._over_at[attempt] = time.monotonic()
    kept.told([attempt])
    kept.prune()
    assert kept.overdue([attempt]) == {attempt}
    kept._over_at[attempt] -= deadlines.FORGOTTEN_AFTER_S
    kept.prune()
    assert (kept.overdue([attempt]), kept.know([attempt])) == (set(), False)
