"""A device on which everything fails at once is taken out of service, but no innocent one."""

from typing import Any
from uuid import UUID

import pytest

from clusterconfig.audit import SYSTEM
from clusterconfig.models import AuditEntry
from devices import operations, serializers
from devices.models import Device
from retire_cluster.gateway.ingest import Batch
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome
from tasks import services
from tasks.lifecycle import LostRace
from tasks.models import Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def run(cluster: Cluster, link: FakeLink, outcome: Outcome, *, tags: tuple[str, ...], **how: Any) -> UUID:
    """A task that ends so on the device whose tags it asks for."""
    (task_id,) = submit(required_tags=tags, **how)
    cluster.step()
    end(cluster, link, outcome)
    return task_id


def end(cluster: Cluster, link: FakeLink, outcome: Outcome) -> None:
    for order in sent(link, wire.Assign):
        attempt: str = order.attempt
        cluster.say(link, wire.Accepted(attempts=(attempt,)))
        cluster.say(link, wire.Result(attempt=attempt, outcome=outcome, ran_s=0.01))  # type: ignore[arg-type]


def fail(cluster: Cluster, link: FakeLink, times: int, tag: str = "bad") -> None:
    for _ in range(times):
        run(cluster, link, Outcome.FAILED, tags=(tag,))


def cordoned(device_id: str = "bad") -> bool:
    return Device.objects.get(id=device_id).cordoned


def pair(cluster: Cluster) -> tuple[FakeLink, FakeLink]:
    """A device that fails, and one that has just shown that it works."""
    bad, good = cluster.join("bad", tags=("bad",)), cluster.join("good", tags=("good",))
    run(cluster, good, Outcome.SUCCESS, tags=("good",))
    return bad, good


def test_five_in_a_row_cordon_it_with_the_reason_and_an_audit_row(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 4)
    assert not cordoned()
    fail(cluster, bad, 1)
    assert cordoned()

    reason = "5 tasks in a row failed within 2 s on it; look at their errors, then uncordon it"
    shown = {
        row["device_id"]: row["status_reason"] for row in serializers.device_rows(list(Device.objects.all()))
    }
    assert shown == {"bad": f"cordoned: {reason}", "good": ""}
    entry = AuditEntry.objects.get(action="device.cordon")
    assert (entry.actor, entry.target, entry.details["reason"]) == ("system", "bad", reason)
    (waiting,) = submit(required_tags=("bad",))
    cluster.step()
    assert status(waiting) == "queued"


def test_after_uncordon_it_has_five_chances_again(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 5)
    operations.uncordon("bad", reason="", actor=SYSTEM)
    fail(cluster, bad, 4)
    assert not cordoned()
    fail(cluster, bad, 1)
    assert cordoned()


def test_a_success_between_ends_the_row(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 4)
    run(cluster, bad, Outcome.SUCCESS, tags=("bad",))
    fail(cluster, bad, 4)
    assert not cordoned()


def test_timeouts_and_cancelled_tasks_do_not_count(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 4)
    for _ in range(3):
        run(cluster, bad, Outcome.TIMEOUT, tags=("bad",))
        (task_id,) = submit(required_tags=("bad",))
        cluster.step()
        services.cancel(task_id, actor=SYSTEM)
        end(cluster, bad, Outcome.FAILED)
        assert status(task_id) == "cancelled"
    assert not cordoned()


def test_one_task_that_fails_again_and_again_is_one(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    (task_id,) = submit(required_tags=("bad",), retries=10)
    for _ in range(6):
        Task.objects.filter(status="pending").update(status="queued")
        cluster.step()
        end(cluster, bad, Outcome.FAILED)
    assert Task.objects.get(id=task_id).failures == 6
    assert not cordoned()


def test_wrong_tasks_do_not_cost_a_cluster_its_devices(cluster: Cluster) -> None:
    links = {name: cluster.join(name, tags=(name,)) for name in ("alice", "bob", "carol")}
    for name, link in links.items():
        run(cluster, link, Outcome.SUCCESS, tags=(name,))
    tasks = submit(60)
    for _ in range(30):
        cluster.step()
        for link in links.values():
            end(cluster, link, Outcome.FAILED)
    assert {status(task_id) for task_id in tasks} == {"failed"}
    assert not Device.objects.filter(cordoned=True).exists()


def test_nobody_is_cordoned_while_no_other_shows_that_it_works(cluster: Cluster) -> None:
    bad = cluster.join("bad", tags=("bad",))
    fail(cluster, bad, 6)
    good = cluster.join("good", tags=("good",))
    fail(cluster, bad, 1)
    assert not cordoned(), "an idle device shows nothing"

    run(cluster, good, Outcome.SUCCESS, tags=("good",))
    operations.cordon("good", reason="", actor=SYSTEM)
    fail(cluster, bad, 1)
    assert not cordoned(), "one out of service is no help"

    operations.uncordon("good", reason="", actor=SYSTEM)
    fail(cluster, bad, 1)
    assert cordoned()


def test_after_two_failures_another_device_is_asked_first(cluster: Cluster) -> None:
    """So that a device which fails alone is found out even in an idle cluster."""
    many = wire.Capabilities(platform="linux", cpu_count=64, memory_total_mb=8192)  # type: ignore[arg-type]
    bad = cluster.join("bad", slots=64, capabilities=many)
    good = cluster.join("good")

    def ends(times: int) -> list[int]:
        counts = [0, 0]
        for _ in range(times):
            submit()
            cluster.step()
            counts[0] += len([m for m in bad.sent if isinstance(m, wire.Assign)])
            counts[1] += len([m for m in good.sent if isinstance(m, wire.Assign)])
            end(cluster, bad, Outcome.FAILED)
            end(cluster, good, Outcome.SUCCESS)
        return counts

    assert ends(6) == [2, 4]


def test_an_operators_drain_is_not_turned_into_a_cordon(cluster: Cluster) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 4)
    (task_id,) = submit(required_tags=("bad",))
    cluster.step()
    operations.drain("bad", reason="repair", deadline_s=60, actor=SYSTEM)
    end(cluster, bad, Outcome.FAILED)
    assert status(task_id) == "failed"
    device = Device.objects.get(id="bad")
    assert (device.draining, device.cordon_reason) == (True, "repair")


def test_a_batch_that_is_rolled_back_counts_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, _ = pair(cluster)
    fail(cluster, bad, 3)
    races = [LostRace("somebody was faster")] * 2
    original = Batch.deliver_intents

    def lose(batch: Batch) -> None:
        original(batch)
        if races and batch._failing:
            raise races.pop()

    monkeypatch.setattr(Batch, "deliver_intents", lose)
    fail(cluster, bad, 1)
    assert not cordoned()
    races += [LostRace("somebody was faster")]
    fail(cluster, bad, 1)
    assert (races, cordoned()) == ([], True)
