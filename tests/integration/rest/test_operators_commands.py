"""What an operator types on the server: retention, requeue, and the checks of a deployment."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from clusterconfig import services
from clusterconfig.models import AuditEntry
from devices.models import Device, Gateway
from retire_cluster import checks
from tasks.models import Attempt, Task
from tests.factories import make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db(transaction=True)

Say = Callable[..., str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command; what it said."""

    def run(*words: str) -> str:
        call_command(*words)
        return capsys.readouterr().out.strip()

    return run


# --- retention ------------------------------------------------------------------------------------------------


def test_retention_counts_first_and_deletes_when_told_to(say: Say) -> None:
    services.forget_cached()
    old = timezone.now() - timedelta(days=31)
    make_finished_task(make_device(), created_at=old, finished_at=old)

    said = say("retention", "--dry-run")
    assert said.splitlines()[0].split() == ["kind", "due"]
    assert ["tasks", "1"] in [line.split() for line in said.splitlines()]
    assert Task.objects.count() == 1

    said = say("retention")
    assert said.splitlines()[0].split() == ["kind", "deleted"]
    assert dict(line.split() for line in said.splitlines()[1:]) == {
        "tasks": "1",
        "output": "0",
        "queue_samples": "0",
        "metrics": "0",
        "audit": "0",
        "idempotency_keys": "0",
        "events": "0",
        "pings": "0",
    }
    assert not Task.objects.exists()


# --- requeue --------------------------------------------------------------------------------------------------


def burned(**fields: Any) -> Device:
    """A device that is gone while its leases still run."""
    return make_device("burned", online=False, **fields)


def running(device: Device, **fields: Any) -> Task:
    task = make_task(status="running", device_id=device.pk, attempt_no=1, **fields)
    make_attempt(task, device, lease_until=timezone.now() + timedelta(hours=1))
    return task


def test_what_a_burned_device_held_goes_to_others_now(say: Say) -> None:
    device, other = burned(), make_device("other")
    tasks = [running(device, losses=3) for _ in range(2)]
    offered = make_task(status="assigned", device_id=device.pk, attempt_no=1)
    make_attempt(offered, device, state="offered", accepted_at=None)
    elsewhere = running(other)

    assert say("requeue", "--device", "burned") == "3 queued"

    rows = Task.objects.in_bulk([task.pk for task in (*tasks, offered)])
    assert {(row.status, row.failures) for row in rows.values()} == {("queued", 0)}
    assert {row.losses for row in rows.values()} == {3, 0}, "nobody's loss: a task lost three times goes on"
    assert Attempt.objects.filter(outcome="returned", reason="an operator gave the device up").count() == 3
    assert Task.objects.get(pk=elsewhere.pk).status == "running"
    entry = AuditEntry.objects.get(action="device.requeue")
    assert (entry.actor, entry.target, entry.details) == ("cli", "burned", {"queued": 3})


def test_what_must_not_run_twice_fails_and_what_is_cancelled_ends(say: Say) -> None:
    device = burned()
    once = running(device, on_device_loss="fail")
    unwanted = running(device, cancel_requested_at=timezone.now(), cancel_requested_by="ann")

    assert say("requeue", "--device", "burned") == "1 cancelled, 1 failed"

    failed = Attempt.objects.get(task=once)
    assert (failed.outcome, failed.error_code) == ("lost", "DEVICE_LOST")
    assert Attempt.objects.get(task=unwanted).confirmed is False


def test_a_device_that_holds_nothing_is_no_error_and_leaves_no_record(say: Say) -> None:
    burned()

    assert say("requeue", "--device", "burned") == "burned holds no task"
    assert not AuditEntry.objects.exists()


def gateway(**fields: Any) -> Gateway:
    return Gateway.objects.create(host="h", port=1, tls=False, started_at=timezone.now(), **fields)


def test_a_connected_device_is_left_to_its_gateway(say: Say) -> None:
    device = make_device("alive", gateway=gateway())
    task = running(device)

    with pytest.raises(CommandError, match="alive is connected: --drain has its gateway stop"):
        say("requeue", "--device", "alive")
    assert Task.objects.get(pk=task.pk).status == "running"
    assert not AuditEntry.objects.exists()

    assert say("requeue", "--device", "alive", "--drain").startswith("alive is cordoned")
    device.refresh_from_db()
    assert (device.cordoned, device.draining) == (True, True)
    assert device.drain_deadline is not None
    assert device.drain_deadline <= timezone.now()
    assert Task.objects.get(pk=task.pk).status == "running", "its gateway does the rest"
    assert AuditEntry.objects.get().action == "device.drain"


@pytest.mark.parametrize(
    "gone", [{"stopped_at": timezone.now()}, {"seen_at": timezone.now() - timedelta(seconds=16)}]
)
def test_a_device_of_a_dead_gateway_is_not_connected_whatever_its_row_says(
    say: Say, gone: dict[str, Any]
) -> None:
    running(make_device("orphan", gateway=gateway(**gone)))

    assert say("requeue", "--device", "orphan") == "1 queued"


@pytest.mark.parametrize("device_id", ["nobody", "x" * 100, "removed"])
def test_a_device_that_is_not_there_is_named(say: Say, device_id: str) -> None:
    make_device("removed", online=False, removed_at=timezone.now())

    with pytest.raises(CommandError, match=f"--device: there is no device '{device_id}'"):
        say("requeue", "--device", device_id)


# --- check --deploy -------------------------------------------------------------------------------------------


def test_this_database_passes_the_checks_of_a_deployment() -> None:
    assert checks.check_postgres() == []


def test_a_transaction_left_open_ends_by_itself_and_a_server_that_forgot_it_is_found() -> None:
    if connection.vendor == "sqlite":
        assert "idle_in_transaction" not in str(connection.settings_dict["OPTIONS"])
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("5s",)
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
        try:
            (warning,) = checks.check_postgres()
        finally:
            cursor.execute("RESET idle_in_transaction_session_timeout")
    assert warning.id == "retire_cluster.W009"
    assert "idle_in_transaction" in warning.msg
