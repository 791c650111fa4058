"""POST /api/v1/tasks: what is accepted, what is refused and how."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from clusterconfig import permissions
from clusterconfig.keys import Scope
from retire_cluster.protocol.messages import MAX_PAYLOAD_BYTES
from tasks.models import Task
from tests.contract.conftest import Api
from tests.factories import make_device

pytestmark = pytest.mark.django_db

ECHO = {"task_type": "echo", "payload": {"message": "Hello World"}}


def _refused(answer: Any, field: str) -> dict[str, Any]:
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (400, "VALIDATION_ERROR"), body
    assert body["error_details"]["field"] == field, body
    return dict(body["error_details"])


def test_a_task_is_created_as_the_specification_shows(api: Api) -> None:
    answer = api.post("tasks", ECHO)

    assert answer.status_code == 201
    body = answer.json()
    task = body["data"]["task"]
    assert set(body) == {"status", "data", "timestamp", "request_id"}
    assert set(body["data"]) == {"task_id", "task"}
    assert set(task) == {"task_id", "task_type", "status", "priority", "created_at"}
    assert (task["task_type"], task["status"], task["priority"]) == ("echo", "queued", "normal")
    assert str(uuid.UUID(task["task_id"])) == task["task_id"] == body["data"]["task_id"]
    assert answer["Location"] == f"/api/v1/tasks/{task['task_id']}"


def test_the_specification_s_full_example_is_stored_with_all_its_requirements(api: Api) -> None:
    body = {
        **ECHO,
        "priority": "normal",
        "requirements": {
            "min_cpu_cores": 2,
            "min_memory_gb": 4,
            "required_platform": "linux",
            "timeout_seconds": 300,
        },
        "metadata": {"created_by": "api_user"},
    }

    detail = api.data(f"tasks/{api.post('tasks', body).json()['data']['task_id']}")

    assert detail["metadata"] == {"created_by": "api_user"}
    assert detail["requirements"] == {
        "min_cpu_cores": 2,
        "min_memory_gb": 4.0,
        "min_storage_gb": None,
        "required_platform": "linux",
        "required_role": None,
        "required_tags": [],
        "gpu_required": False,
        "internet_required": False,
        "timeout_seconds": 300,
        "max_retries": 0,
        "on_device_loss": "requeue",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task_type": None}, "task_type"),
        ({"task_type": ""}, "task_type"),
        ({"task_type": 7}, "task_type"),
        ({"task_type": "x" * 101}, "task_type"),
        ({"payload": None}, "payload"),
        ({"payload": []}, "payload"),
        ({"payload": "text"}, "payload"),
        ({"priority": "Normal"}, "priority"),
        ({"priority": ["normal"]}, "priority"),
        ({"metadata": []}, "metadata"),
        ({"requirements": []}, "requirements"),
        ({"surprise": 1}, "surprise"),
        ({"requirements": {"surprise": 1}}, "requirements.surprise"),
        ({"requirements": {"min_cpu_cores": 0}}, "requirements.min_cpu_cores"),
        ({"requirements": {"min_cpu_cores": 1.5}}, "requirements.min_cpu_cores"),
        ({"requirements": {"min_cpu_cores": True}}, "requirements.min_cpu_cores"),
        ({"requirements": {"min_memory_gb": 0}}, "requirements.min_memory_gb"),
        ({"requirements": {"min_memory_gb": "4"}}, "requirements.min_memory_gb"),
        ({"requirements": {"min_memory_gb": 10**400}}, "requirements.min_memory_gb"),
        ({"requirements": {"min_storage_gb": -1}}, "requirements.min_storage_gb"),
        ({"requirements": {"required_platform": "beos"}}, "requirements.required_platform"),
        ({"requirements": {"required_role": {}}}, "requirements.required_role"),
        ({"requirements": {"required_tags": "gpu"}}, "requirements.required_tags"),
        ({"requirements": {"required_tags": ["ok", "no spaces"]}}, "requirements.required_tags[1]"),
        ({"requirements": {"required_tags": [f"t{n}" for n in range(33)]}}, "requirements.required_tags"),
        ({"requirements": {"gpu_required": 1}}, "requirements.gpu_required"),
        ({"requirements": {"internet_required": "yes"}}, "requirements.internet_required"),
        ({"requirements": {"timeout_seconds": 0}}, "requirements.timeout_seconds"),
        ({"requirements": {"timeout_seconds": 86_401}}, "requirements.timeout_seconds"),
        ({"requirements": {"max_retries": 11}}, "requirements.max_retries"),
        ({"requirements": {"max_retries": -1}}, "requirements.max_retries"),
        ({"requirements": {"on_device_loss": "shrug"}}, "requirements.on_device_loss"),
        ({"task_type": "sleep", "payload": {"duration": "2"}}, "payload.duration"),
        ({"task_type": "sleep", "payload": {"duration": -0.1}}, "payload.duration"),
        ({"task_type": "sleep", "payload": {"duration": 86_400.5}}, "payload.duration"),
    ],
)
def test_an_invalid_field_is_named(api: Api, change: dict[str, Any], field: str) -> None:
    details = _refused(api.post("tasks", {**ECHO, **change}), field)

    assert set(details) == {"field", "reason"}
    assert Task.objects.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {}},
        {"requirements": None, "priority": None, "metadata": None},
        {
            "requirements": {
                "min_cpu_cores": 1,
                "min_memory_gb": 0.25,
                "timeout_seconds": 86_400,
                "max_retries": 10,
            }
        },
        {"requirements": {"required_tags": ["gpu-capable", "arm64"], "on_device_loss": "fail"}},
        {"task_type": "sleep", "payload": {}},
        {"task_type": "sleep", "payload": {"duration": 0}},
        {"task_type": "system_info", "payload": {}},
        {"payload": {"deep": [[{"ünïcode": "💾", "n": 1e300}]]}},
    ],
)
def test_the_edges_of_what_is_allowed_are_allowed(api: Api, change: dict[str, Any]) -> None:
    assert api.post("tasks", {**ECHO, **change}).status_code == 201


def test_every_invalid_field_is_listed_and_the_first_is_named(api: Api) -> None:
    details = _refused(
        api.post("tasks", {"task_type": 1, "priority": "x", "requirements": {"a": 1}}), "task_type"
    )

    fields = [error["field"] for error in details["errors"]]
    assert fields == ["task_type", "payload", "priority", "requirements.a"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"task_type":"echo","payload":{"x":NaN}}',
        b'{"task_type":"echo","payload":{"x":1e999}}',
        b'{"task_type":"echo","payload":{"x":"\\u0000"}}',
        b'{"task_type":"echo","payload":{"x":"\\ud800"}}',
        b'{"task_type":"echo","payload":{"x":"\xff"}}',
        b'{"task_type":"echo","task_type":"sleep","payload":{}}',
        b'{"task_type":"echo","payload":' + b'{"a":' * 70 + b"1" + b"}" * 71,
        b"[" * 100_000,
    ],
)
def test_a_body_that_cannot_be_kept_is_refused(api: Api, raw: bytes) -> None:
    answer = api.post("tasks", raw)

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "VALIDATION_ERROR"
    assert Task.objects.count() == 0


def test_a_payload_over_its_limit_is_413(api: Api) -> None:
    fits = {**ECHO, "payload": {"x": "a" * (MAX_PAYLOAD_BYTES - len('{"x":""}'))}}
    over = {**ECHO, "payload": {"x": "a" * (MAX_PAYLOAD_BYTES - len('{"x":""}') + 1)}}

    assert api.post("tasks", fits).status_code == 201
    answer = api.post("tasks", over)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.json()["error_details"]["field"] == "payload"


def test_a_body_over_its_limit_is_413_in_the_envelope(api: Api) -> None:
    answer = api.post("tasks", b" " * (512 * 1024 + 1))

    assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""]
)
def test_another_content_type_is_415(api: Api, content_type: str) -> None:
    answer = api.post("tasks", b"{}", content_type=content_type)

    assert (answer.status_code, answer.json()["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_form_of_a_stranger_is_415(api: Api) -> None:
    answer = api.post("tasks", b"task_type=echo&payload={}", content_type="application/x-www-form-urlencoded")

    assert (answer.status_code, answer.json()["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_form_with_a_key_is_415_too(keyed: Callable[..., Api]) -> None:
    answer = keyed(Scope.ADMIN).post(
        "tasks", b"task_type=echo&payload={}", content_type="application/x-www-form-urlencoded"
    )

    assert answer.status_code == 415


def test_an_unknown_type_names_the_known_ones(keyed: Callable[..., Api]) -> None:
    make_device(task_types=["echo", "render"])

    details = _refused(keyed(Scope.EXECUTE).post("tasks", {**ECHO, "task_type": "ehco"}), "task_type")

    assert "render" in details["reason"]


def test_code_running_types_need_a_key(api: Api, keyed: Callable[..., Api]) -> None:
    make_device(task_types=["python_eval"])
    body = {"task_type": "python_eval", "payload": {"expression": "1"}}

    refused = api.post("tasks", body)
    assert (refused.status_code, refused.json()["error_code"]) == (401, "UNAUTHORIZED")
    assert refused["WWW-Authenticate"].startswith("Bearer")
    assert keyed(Scope.SUBMIT).post("tasks", body).status_code == 403
    assert keyed(Scope.EXECUTE).post("tasks", body).status_code == 201


def test_a_key_without_the_right_to_submit_is_403(keyed: Callable[..., Api]) -> None:
    answer = keyed(Scope.READ, Scope.OPERATE).post("tasks", ECHO)

    assert (answer.status_code, answer.json()["error_code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "extra",
    [
        {"REMOTE_ADDR": "192.0.2.9"},
        {"headers": {"Host": "192.168.1.5:8081"}},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"X-Forwarded-Whatever": "x"}},
        {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"headers": {"X-Real-IP": "127.0.0.1"}},
        {"headers": {"Via": "1.1 proxy"}},
    ],
)
def test_loopback_runs_code_without_a_key_only_when_asked_directly(
    api: Api, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
) -> None:
    make_device(task_types=["command"])
    body = {"task_type": "command", "payload": {"command": "true"}}
    monkeypatch.setattr(permissions, "loopback_privilege", True)

    assert api.post("tasks", body).status_code == 201
    assert api.post("tasks", body, **extra).status_code == 401


@pytest.mark.parametrize(
    ("name", "value"), [("AUTH", "on"), ("AUTH", "all"), ("TRUSTED_PROXIES", ["10.0.0.1"])]
)
def test_settings_take_the_privilege_of_loopback_away(
    api: Api, monkeypatch: pytest.MonkeyPatch, settings: Any, name: str, value: Any
) -> None:
    make_device(task_types=["command"])
    monkeypatch.setattr(permissions, "loopback_privilege", True)
    setattr(settings, name, value)

    assert api.post("tasks", {"task_type": "command", "payload": {}}).status_code == 401


def test_the_submitter_is_recorded(api: Api, keyed: Callable[..., Api]) -> None:
    api.post("tasks", ECHO)
    keyed(Scope.SUBMIT).post("tasks", ECHO)

    submitters = list(Task.objects.order_by("created_at").values_list("submitted_by", flat=True))
    assert submitters[0] == ""
    assert submitters[1].startswith("key:rck_")


@pytest.mark.parametrize("wait", ["x", "-1", "60.1", "nan", "inf"])
def test_an_invalid_wait_is_400(api: Api, wait: str) -> None:
    _refused(api.post(f"tasks?wait={wait}", ECHO), "wait")
    assert Task.objects.count() == 0
