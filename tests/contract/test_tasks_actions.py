"""What can be done with tasks beyond submitting one: batches, replays, cancel, retry, explain, figures."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry
from devices.models import Device
from retire_cluster.protocol.states import Priority, TaskStatus
from tasks import profiles, statistics
from tasks.models import IdempotencyKey, Task
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db
ECHO = {"task_type": "echo", "payload": {"message": "Hello"}}
Keyed = Callable[..., Api]


@pytest.fixture(autouse=True)
def _fresh_figures() -> None:
    statistics.forget_cached()


# --- batches --------------------------------------------------------------------------------------------------


def test_a_batch_is_stored_whole_and_in_order(api: Api) -> None:
    answer = api.post("tasks/batch", {"tasks": [{**ECHO, "payload": {"n": n}} for n in range(1000)]})

    assert answer.status_code == 201, answer.content
    data = answer.json()["data"]
    assert data["count"] == 1000
    rows = Task.objects.in_bulk([item["task_id"] for item in data["tasks"]])
    ranks = [row.rank for row in (rows[key] for key in sorted(rows))]
    assert ranks == sorted(set(ranks))
    assert data["tasks"][0]["status"] == "queued"
    assert [json.loads(row.payload)["n"] for row in Task.objects.order_by("rank")] == list(range(1000))


def test_one_bad_entry_stores_nothing_and_every_one_is_named(api: Api) -> None:
    batch = [ECHO, {**ECHO, "priority": "soon"}, ECHO, {"payload": {}}, {**ECHO, "extra": 1}, 7]
    answer = api.post("tasks/batch", {"tasks": batch})

    assert answer.status_code == 400
    details = answer.json()["error_details"]
    fields = [item["field"] for item in details["errors"]]
    assert fields[:3] == ["tasks[1].priority", "tasks[3].task_type", "tasks[4].extra"]
    assert any(field.startswith("tasks[5]") for field in fields)
    assert not Task.objects.exists()


def test_an_unknown_type_in_a_batch_is_named_by_its_index(keyed: Keyed) -> None:
    batch = [ECHO, *({**ECHO, "task_type": name} for name in ("nonsense", "echo", "humbug", "nonsense"))]
    answer = keyed(Scope.ADMIN).post("tasks/batch", {"tasks": batch})
    assert answer.status_code == 400
    details = answer.json()["error_details"]
    assert details["field"] == "tasks[1].task_type"
    named = [(item["field"], item["reason"].split("'")[1]) for item in details["errors"]]
    wrong = {1: "nonsense", 3: "humbug", 4: "nonsense"}
    assert named == [(f"tasks[{index}].task_type", name) for index, name in wrong.items()]
    assert not Task.objects.exists()


def test_errors_of_a_hopeless_batch_are_cut_off(api: Api) -> None:
    answer = api.post("tasks/batch", {"tasks": [{} for _ in range(1000)]})
    assert answer.status_code == 400
    assert len(answer.json()["error_details"]["errors"]) < 110


@pytest.mark.parametrize("tasks", [None, [], {}, "x", [ECHO] * 1001], ids=str)
def test_a_batch_has_one_to_a_thousand_entries(api: Api, tasks: Any) -> None:
    answer = api.post("tasks/batch", {"tasks": tasks})
    assert (answer.status_code, answer.json()["error_details"]["field"]) == (400, "tasks")


def test_a_batch_may_have_eight_megabytes_where_one_task_may_not(api: Api) -> None:
    big = {**ECHO, "payload": {"text": "x" * 200_000}}
    assert api.post("tasks/batch", {"tasks": [big] * 4}).status_code == 201
    assert api.post("tasks/batch/", {"tasks": [big] * 4}).status_code == 201
    too_big = api.post("tasks/batch", b" " * (8 * 1024 * 1024 + 1))
    assert (too_big.status_code, too_big.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert api.post("tasks", b" " * (512 * 1024 + 1)).status_code == 413


def test_a_payload_too_large_names_its_entry(api: Api) -> None:
    answer = api.post("tasks/batch", {"tasks": [ECHO, {**ECHO, "payload": {"text": "x" * 262_144}}]})
    assert answer.status_code == 413
    assert answer.json()["error_details"]["field"] == "tasks[1].payload"


def test_a_batch_costs_the_same_statements_whatever_its_size(
    api: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    api.post("tasks", ECHO)  # the profile exists
    for size in (1, 500):
        profiles.forget()  # known for a second only
        with django_assert_num_queries(6):
            assert api.post("tasks/batch", {"tasks": [ECHO] * size}).status_code == 201


def test_code_in_a_batch_needs_the_right_to_run_it(api: Api, keyed: Keyed) -> None:
    make_device("pi", task_types=["echo", "word_count"])
    batch = {"tasks": [ECHO, {**ECHO, "task_type": "word_count"}]}
    assert api.post("tasks/batch", batch).status_code == 401
    assert keyed(Scope.SUBMIT).post("tasks/batch", batch).status_code == 403
    assert keyed(Scope.EXECUTE).post("tasks/batch", batch).status_code == 201
    (entry,) = AuditEntry.objects.filter(action="task.submit")
    assert entry.details == {"task_types": ["word_count"], "count": 1}


# --- Idempotency-Key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [("tasks", ECHO), ("tasks/batch", {"tasks": [ECHO, ECHO]})])
def test_the_same_key_and_body_name_the_same_tasks(api: Api, path: str, body: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = api.post(path, body, headers=headers)
    again = api.post(path, json.dumps(body, indent=3), headers=headers)  # spacing is not content

    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert again.json()["data"] == first.json()["data"]
    assert Task.objects.count() == len(body.get("tasks", [body]))


def test_pages_of_an_allowed_origin_may_send_and_read_it(api: Api, settings: Any) -> None:
    settings.ALLOWED_ORIGINS = ["https://lab.example"]
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    preflight = api.send("OPTIONS", "tasks", headers=asked)
    assert {"Idempotency-Key", "If-Match"} <= set(preflight["Access-Control-Allow-Headers"].split(", "))
    exposed = set(preflight["Access-Control-Expose-Headers"].split(", "))
    assert {"Idempotent-Replayed", "ETag", "Location"} <= exposed


def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    api.post("tasks", ECHO, headers=headers)
    for path, body in (("tasks", {**ECHO, "payload": {}}), ("tasks/batch", {"tasks": [ECHO]})):
        answer = api.post(path, body, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (409, "IDEMPOTENCY_MISMATCH")
        assert answer.json()["error_details"].keys() == {"field", "reason"}
    assert Task.objects.count() == 1


def test_a_key_belongs_to_whoever_used_it(api: Api, keyed: Keyed) -> None:
    headers = {"Idempotency-Key": "order-7"}
    clients = [api, keyed(Scope.SUBMIT), keyed(Scope.SUBMIT)]
    ids = {client.post("tasks", ECHO, headers=headers).json()["data"]["task_id"] for client in clients}
    assert len(ids) == 3


def test_a_key_is_forgotten_after_a_day(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = api.post("tasks", ECHO, headers=headers).json()["data"]["task_id"]
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert api.post("tasks", ECHO, headers=headers).json()["data"]["task_id"] != first


@pytest.mark.parametrize("key", ["", "x" * 256, "ümlaut", "a\tb"], ids=ascii)
def test_a_key_is_printable_and_short(api: Api, key: str) -> None:
    answer = api.post("tasks", ECHO, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error_details"]["field"]) == (400, "Idempotency-Key")


def test_a_replay_that_waits_shows_the_result_of_the_first(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = api.post("tasks", ECHO, headers=headers).json()["data"]["task_id"]
    Task.objects.filter(pk=first).update(status=TaskStatus.SUCCESS, finished_at=timezone.now())
    answer = api.post("tasks?wait=30", ECHO, headers=headers)
    assert answer.json()["data"]["task"]["status"] == "success"
    assert answer["Idempotent-Replayed"] == "true"


# --- cancel and retry -----------------------------------------------------------------------------------------


def test_a_waiting_task_is_cancelled_at_once_and_put_on_record(keyed: Keyed) -> None:
    task = make_task()
    answer = keyed(Scope.OPERATE).post(f"tasks/{task.pk}/cancel", b"")

    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["status"], data["task_id"]) == ("cancelled", str(task.pk))
    (entry,) = AuditEntry.objects.filter(action="task.cancel")
    assert (entry.target, entry.details) == (str(task.pk), {"was": "queued"})
    assert entry.actor.startswith("key:rck_")
    assert entry.request_id == answer["X-Request-ID"]


def test_a_running_task_is_only_asked_to_stop(keyed: Keyed) -> None:
    task = make_task(status=TaskStatus.RUNNING)
    make_attempt(task, make_device("pi"))
    operator = keyed(Scope.OPERATE)
    for _ in range(2):  # asking twice is no error
        data = operator.post(f"tasks/{task.pk}/cancel", b"").json()["data"]
        assert (data["status"], data["cancel_requested"]) == ("running", True)
    assert AuditEntry.objects.filter(action="task.cancel").count() == 1


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_what_the_state_does_not_allow_is_a_conflict_that_names_it(keyed: Keyed, action: str) -> None:
    task = make_finished_task(make_device("pi"))
    answer = keyed(Scope.ADMIN).post(f"tasks/{task.pk}/{action}", b"")
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (409, "CONFLICT")
    assert body["error_details"]["status"] == "success"
    assert not AuditEntry.objects.filter(action__startswith="task.").exists()


@pytest.mark.parametrize("status", [status for status in TaskStatus if status.can_retry])
def test_a_task_that_ended_badly_runs_again_under_its_id(keyed: Keyed, status: TaskStatus) -> None:
    task = make_finished_task(make_device("pi"), status=status)
    answer = keyed(Scope.OPERATE, Scope.SUBMIT).post(f"tasks/{task.pk}/retry", b"")
    assert answer.status_code == 200, answer.content
    assert answer.json()["data"]["status"] == "queued"
    task.refresh_from_db()
    assert (task.round, task.attempts.count()) == (2, 1)
    assert AuditEntry.objects.get(action="task.retry").details == {"was": status}


def test_a_retry_needs_the_right_to_run_the_type(keyed: Keyed) -> None:
    task = make_finished_task(make_device("pi"), status=TaskStatus.FAILED, task_type="word_count")
    assert keyed(Scope.OPERATE).post(f"tasks/{task.pk}/retry", b"").status_code == 403
    assert keyed(Scope.OPERATE, Scope.EXECUTE).post(f"tasks/{task.pk}/retry", b"").status_code == 200


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_an_unknown_task_is_404_and_a_body_is_looked_at(keyed: Keyed, action: str) -> None:
    operator = keyed(Scope.ADMIN)
    missing = operator.post(f"tasks/550e8400-e29b-41d4-a716-446655440000/{action}", b"")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "TASK_NOT_FOUND")
    answer = operator.post(f"tasks/{make_task().pk}/{action}", {"force": True})
    assert (answer.status_code, answer.json()["error_details"]["field"]) == (400, "force")


# --- explain --------------------------------------------------------------------------------------------------

NEEDY = {**ECHO, "requirements": {"min_memory_gb": 8, "required_tags": ["disks"]}}


def fleet() -> None:
    make_device("fits", memory_mb=16_384, allocatable_memory_mb=14_000, tags=["disks"])
    make_device("small", memory_mb=4096, allocatable_memory_mb=3686, tags=["disks"])
    make_device("wrong", memory_mb=4096, allocatable_memory_mb=3686, tags=[], online=False)


@pytest.mark.parametrize("dry", [True, False])
def test_explain_holds_every_device_against_the_task_with_its_values(api: Api, dry: bool) -> None:
    fleet()
    if dry:
        answer = api.post("tasks?dry_run=true", NEEDY)
        assert answer.status_code == 200
        data = answer.json()["data"]
        assert not Task.objects.exists()
    else:
        data = api.data(f"tasks/{api.post('tasks', NEEDY).json()['data']['task_id']}/explain")

    assert (data["total_devices"], data["fitting_devices"], data["available_devices"]) == (3, 1, 1)
    assert [device["device_id"] for device in data["devices"]] == ["fits", "small", "wrong"]
    memory = {
        device["device_id"]: check
        for device in data["devices"]
        for check in device["checks"]
        if check["check"] == "memory"
    }
    assert memory["small"] == {"check": "memory", "passed": False, "wanted": "8 GB", "found": "3.6 GB"}
    assert data["devices"][0]["available"] is True
    failed = [check["check"] for check in data["devices"][2]["checks"] if not check["passed"]]
    assert set(failed) == {"memory", "tags", "online", "free_memory"}


def test_what_a_device_has_not_reads_as_a_sentence(api: Api) -> None:
    make_device("nuc", has_internet=False)
    wanted = {"required_tags": ["disks", "shelf"], "gpu_required": True, "internet_required": True}

    reason = api.post("tasks?dry_run=true", {**ECHO, "requirements": wanted}).json()["data"]["reason"]

    assert "needs disks, shelf, has no tag disks or shelf" in reason
    assert "needs a GPU, has none" in reason
    assert "needs internet access, has none" in reason


def test_explain_names_a_pause_as_a_check_of_its_own(api: Api) -> None:
    make_device("phone", paused_reason="temperature 81 °C, limit 75 °C")
    task = make_task()

    data = api.data(f"tasks/{task.pk}/explain")

    assert (data["fitting_devices"], data["available_devices"]) == (1, 0)
    [failed] = [check for check in data["devices"][0]["checks"] if not check["passed"]]
    assert failed == {
        "check": "paused",
        "passed": False,
        "wanted": "takes tasks",
        "found": "paused: temperature 81 °C, limit 75 °C",
    }
    reason = api.data(f"tasks/{task.pk}/status")["queue_reason"]
    assert reason == "1 device fits, but it is paused: temperature 81 °C, limit 75 °C"


def test_a_fleet_out_of_service_is_explained_in_one_sentence(api: Api) -> None:
    make_device("phone", paused_reason="battery at 9 %")
    make_device("tablet", paused_reason="temperature 80 °C")
    task = make_task()

    def reason() -> str:
        return str(api.data(f"tasks/{task.pk}/status")["queue_reason"])

    assert reason() == "2 devices fit, but all are paused; phone: battery at 9 %"
    make_device("nuc", cordoned=True)
    assert reason() == "3 devices fit, but all are cordoned or paused; phone: battery at 9 %"
    make_device("pi")
    assert reason() == "1 device fits with room, perhaps held for an older task that needs more of it"
    Task.objects.update(ready_at=timezone.now())
    assert reason() == "1 device fits with room: it starts in a moment"
    assert api.data(f"tasks/{task.pk}/explain")["reason"] == reason()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "pending", "failures": 1, "max_retries": 3}, "waits 0 s before try 2 of 4"),
        ({"status": "assigned", "device_id": "nuc"}, "offered to nuc, which has not answered yet"),
        ({"status": "running", "device_id": "nuc"}, "it runs on nuc"),
        (
            {"status": "running", "device_id": "nuc", "cancel_requested_at": START},
            "nuc was told to stop it and has not confirmed yet",
        ),
        ({"status": "success", "device_id": "nuc"}, "it has ended: success on nuc"),
        ({"status": "cancelled"}, "it has ended: cancelled"),
    ],
)
def test_of_a_task_that_waits_for_no_device_explain_says_how_it_stands(
    api: Api, fields: dict[str, Any], reason: str
) -> None:
    make_device("nuc")

    data = api.data(f"tasks/{make_task(**fields).pk}/explain")

    assert data["reason"] == reason
    assert [device["device_id"] for device in data["devices"]] == ["nuc"]


def test_a_task_that_waits_for_another_device_than_the_one_that_lost_it_says_so(api: Api) -> None:
    make_device("nuc")
    task = make_task(avoid_device="nuc", ready_at=timezone.now())

    def reason() -> str:
        words = str(api.data(f"tasks/{task.pk}/status")["queue_reason"])
        assert api.data(f"tasks/{task.pk}/explain")["reason"] == words
        return words

    assert reason() == "1 device fits with room: it starts in a moment"  # there is no other one
    make_device("pi", cordoned=True)
    assert reason() == "only nuc has room, where it was lost or failed: others have 15 s to take it"
    make_device("pi-2")
    assert reason() == "2 devices fit with room: it starts in a moment"
    Device.objects.filter(pk="pi-2").delete()
    Task.objects.update(ready_at=timezone.now() - timedelta(seconds=15))
    assert "only nuc" not in reason()


def test_a_dry_run_is_checked_as_the_real_one(api: Api) -> None:
    assert api.post("tasks?dry_run=true", {"task_type": "echo"}).status_code == 400
    assert api.post("tasks?dry_run=perhaps", ECHO).json()["error_details"]["field"] == "dry_run"
    assert api.post("tasks?dry_run=true", {**ECHO, "task_type": "python_eval"}).status_code == 401


def test_explaining_costs_the_same_statements_whatever_the_fleet(
    api: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = make_task()
    for size in (1, 30):
        for number in range(size):
            make_device(f"device-{size}-{number}")
        with django_assert_num_queries(4):
            assert api.get(f"tasks/{task.pk}/explain").status_code == 200


# --- figures --------------------------------------------------------------------------------------------------


def test_statistics_count_what_there_is(api: Api) -> None:
    device = make_device("pi", slots=4)
    make_device("away", slots=4, online=False)
    now = timezone.now()
    make_finished_task(device, execution_s=3.0, finished_at=now)
    make_finished_task(device, status=TaskStatus.FAILED, execution_s=1.0, finished_at=now)
    make_task(priority=Priority.URGENT)
    running = make_task(status=TaskStatus.RUNNING, device_id="pi")
    make_attempt(running, device, slots=1)

    data = api.data("tasks/statistics")

    queue = data["queue_stats"]
    assert queue["total_tasks"] == 4
    assert set(queue["by_status"]) == {status.value for status in TaskStatus}
    assert (queue["by_status"]["success"], queue["by_status"]["queued"]) == (1, 1)
    assert set(queue["by_priority"]) == {"low", "normal", "high", "urgent"}
    assert queue["by_device"]["pi"] >= 1
    performance = data["performance_metrics"]
    assert (performance["success_rate"], performance["average_execution_time"]) == (50.0, 2.0)
    assert performance["tasks_per_hour"] == 2
    assert performance["device_utilization"] == {"pi": 25.0}
    assert data["current_load"] == {"pending_tasks": 1, "running_tasks": 1, "capacity_utilization": 25.0}


def test_statistics_of_nothing_are_zero(api: Api) -> None:
    data = api.data("tasks/statistics")
    assert data["queue_stats"]["total_tasks"] == 0
    assert data["performance_metrics"]["success_rate"] == 0.0
    assert data["current_load"] == {"pending_tasks": 0, "running_tasks": 0, "capacity_utilization": 0.0}
