"""Devices paused by their owners' limits: no offer from the first moment on, and everybody sees why."""

from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig.audit import SYSTEM
from devices import operations, serializers
from devices.models import Device
from retire_cluster.gateway.ingest import Batch
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome
from tasks import services, sweep
from tasks.lifecycle import LostRace
from tasks.models import Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit
from tests.integration.gateway.test_removal import run_one

pytestmark = pytest.mark.django_db(transaction=True)

LOW = "battery at 15 %, limit 20 %"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def beat(cluster: Cluster, link: FakeLink, reason: str | None, **more: object) -> None:
    cluster.say(link, wire.Heartbeat(paused_reason=reason, **more))  # type: ignore[arg-type]


def stored() -> str:
    return Device.objects.get(id="alice").paused_reason


def shown() -> str:
    """What the API says of the device."""
    (row,) = serializers.device_rows(list(Device.objects.all()))
    assert row["status"] == "online"
    return str(row["status_reason"])


def why(task_id: UUID) -> str:
    task = Task.objects.get(id=task_id)
    return services.queue_reasons([task])[task.id]


def test_a_device_that_registers_paused_gets_no_offer(cluster: Cluster) -> None:
    (task_id,) = submit()
    link = cluster.join("alice", paused_reason=LOW)
    cluster.tick()
    assert (status(task_id), sent(link, wire.Assign)) == ("queued", [])
    assert shown() == f"paused: {LOW}"
    assert why(task_id) == f"1 device fits, but it is paused: {LOW}"

    beat(cluster, link, None)
    cluster.tick()
    assert len(sent(link, wire.Assign)) == 1
    assert shown() == ""


def test_a_pause_takes_effect_in_the_very_batch_that_tells_it(cluster: Cluster) -> None:
    link = cluster.join("alice")
    (task_id,) = submit()
    beat(cluster, link, LOW)
    assert (status(task_id), sent(link, wire.Assign)) == ("queued", [])
    assert stored() == LOW


def test_what_runs_goes_on_while_a_device_is_paused(cluster: Cluster) -> None:
    link = cluster.join("alice")
    task_id, attempt = run_one(cluster, link)
    held = (wire.Held(attempt=attempt, state="running"),)  # type: ignore[arg-type]
    beat(cluster, link, LOW, held=held)
    cluster.tick()
    assert status(task_id) == "running"
    cluster.say(link, wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="{}"))
    assert status(task_id) == "success"


def test_other_processes_know_a_paused_device_by_its_row(cluster: Cluster) -> None:
    link = cluster.join("alice")
    beat(cluster, link, LOW)
    submit()
    assert sweep.placeable() == 0
    Device.objects.update(paused_reason="")
    operations.cordon("alice", reason="", actor=SYSTEM)
    assert sweep.placeable() == 0
    operations.uncordon("alice", reason="", actor=SYSTEM)
    assert sweep.placeable() == 1


def test_another_gateways_memory_is_overruled_by_the_row(cluster: Cluster) -> None:
    link = cluster.join("alice")
    Device.objects.update(paused_reason=LOW)
    submit()
    cluster.tick()
    assert sent(link, wire.Assign) == []


def test_only_a_change_is_written(cluster: Cluster) -> None:
    link = cluster.join("alice")
    beat(cluster, link, LOW)
    with CaptureQueriesContext(connection) as queries:
        beat(cluster, link, LOW)
        beat(cluster, link, LOW)
    assert [query for query in queries if str(query["sql"]).startswith('UPDATE "devices_device"')] == []


def test_the_last_word_of_a_batch_counts(cluster: Cluster) -> None:
    link = cluster.join("alice")
    cluster.say(link, *(wire.Heartbeat(paused_reason=reason) for reason in (LOW, None, LOW, None)))
    assert stored() == ""
    cluster.say(link, wire.Heartbeat(), wire.Heartbeat(paused_reason=LOW))
    assert stored() == LOW
    beat(cluster, link, None)
    assert stored() == ""


def test_a_pause_that_was_rolled_back_is_written_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cluster.join("alice")
    races = [LostRace("somebody was faster")]

    def lose_once(batch: Batch) -> None:
        if races:
            raise races.pop()

    monkeypatch.setattr(Batch, "deliver_intents", lose_once)
    beat(cluster, link, LOW)
    assert (races, stored()) == ([], LOW)


@pytest.mark.parametrize("orderly", [True, False])
def test_a_device_that_left_is_offline_and_no_longer_paused(cluster: Cluster, orderly: bool) -> None:
    link = cluster.join("alice", paused_reason=LOW)
    (welcome,) = sent(link, wire.Welcome)
    cluster.drop(link, orderly=orderly)
    assert stored() == ""
    cluster.join("alice", secret=welcome.secret)
    assert stored() == ""


def test_a_restart_of_the_gateway_clears_it(cluster: Cluster) -> None:
    cluster.join("alice", paused_reason=LOW)
    Cluster()
    assert stored() == ""


def test_removal_clears_it(cluster: Cluster) -> None:
    cluster.join("alice", paused_reason=LOW)
    operations.remove("alice", actor=SYSTEM)
    assert stored() == ""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", "the device gives no reason"),
        (" \n\t ", "the device gives no reason"),
        ("hot\r\nLevel: admin\x1b[31m\u202egnp", "hot Level: admin [31m gnp"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x" * 500, "x" * 500),
    ],
)
def test_hostile_words_stay_one_harmless_line(cluster: Cluster, said: str, kept: str) -> None:
    link = cluster.join("alice", paused_reason=said)
    assert stored() == kept
    beat(cluster, link, None)
    beat(cluster, link, said)
    assert stored() == kept


def test_a_pause_and_a_cordon_are_both_told(cluster: Cluster) -> None:
    cluster.join("alice", paused_reason=LOW)
    operations.cordon("alice", reason="new fan", actor=SYSTEM)
    assert shown() == f"paused: {LOW}; cordoned: new fan"
