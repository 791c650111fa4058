"""Every answer under /api/ has the one form, whatever went wrong."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from clusterconfig.keys import Scope
from tasks import services
from tests.contract.conftest import Api
from tests.factories import make_task

pytestmark = pytest.mark.django_db

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ERROR_KEYS = {"status", "message", "error_code", "error_details", "timestamp", "request_id"}


def assert_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The answer is that error, in the envelope; returns its body."""
    assert answer["Content-Type"].startswith("application/json")
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, code), body
    assert set(body) == ERROR_KEYS
    assert body["status"] == "error"
    assert body["message"]
    assert TIMESTAMP.fullmatch(body["timestamp"])
    assert body["request_id"] == answer["X-Request-ID"]
    return body


def test_success_has_exactly_its_keys(api: Api) -> None:
    answer = api.get("cluster/status")

    body = answer.json()
    assert set(body) == {"status", "data", "timestamp", "request_id"}
    assert body["status"] == "success"
    assert TIMESTAMP.fullmatch(body["timestamp"])
    assert body["request_id"] == answer["X-Request-ID"]
    moment = datetime.fromisoformat(body["timestamp"])
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_a_list_adds_its_pagination(api: Api) -> None:
    assert set(api.get("tasks").json()) == {"status", "data", "pagination", "timestamp", "request_id"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nothing", "NOT_FOUND"),
        ("tasks/1/nothing", "NOT_FOUND"),
        ("/api/", "NOT_FOUND"),
        ("/api/v2/tasks", "NOT_FOUND"),
        ("/api/v1/../v1/x", "NOT_FOUND"),
        ("devices/nobody", "DEVICE_NOT_FOUND"),
        ("devices/%00", "DEVICE_NOT_FOUND"),
        ("devices/%E2%80%AE", "DEVICE_NOT_FOUND"),
        ("tasks/not-a-uuid", "TASK_NOT_FOUND"),
        ("tasks/550e8400-e29b-41d4-a716-446655440000", "TASK_NOT_FOUND"),
        ("tasks/550e8400-e29b-41d4-a716-446655440000/status", "TASK_NOT_FOUND"),
        ("tasks/550e8400-e29b-41d4-a716-446655440000/result?wait=1", "TASK_NOT_FOUND"),
        ("tasks/%7B550e8400-e29b-41d4-a716-446655440000%7D", "TASK_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_404(api: Api, path: str, code: str) -> None:
    assert_error(api.get(path), 404, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_an_unknown_path_is_404_for_every_method(api: Api, method: str) -> None:
    answer = api.send(method, "nothing")

    assert answer.status_code in (401, 404)
    assert set(answer.json()) == ERROR_KEYS


@pytest.mark.parametrize(("method", "path"), [("PUT", "tasks"), ("PATCH", "tasks"), ("DELETE", "tasks/1")])
def test_another_method_is_405_and_says_which_are_allowed(api: Api, method: str, path: str) -> None:
    answer = api.send(method, path)

    assert_error(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer["Allow"]


def test_what_the_client_does_not_accept_is_406(api: Api) -> None:
    assert_error(api.get("tasks", headers={"Accept": "text/csv"}), 406, "NOT_ACCEPTABLE")


def test_an_unexpected_error_is_500_without_internals(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    monkeypatch.setattr(services, "queue_reasons", _raising(RuntimeError("the secret of the house")))

    answer = api.get(f"tasks/{task.pk}/status")

    body = assert_error(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in answer.content.decode()
    assert body["error_details"] == {}


def test_debug_shows_the_internals_but_no_key(
    api: Api, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.DEBUG = True
    task = make_task()
    key = "rck_" + "a" * 64
    monkeypatch.setattr(services, "queue_reasons", _raising(RuntimeError(f"boom {key}")))

    answer = api.get(f"tasks/{task.pk}/status")

    details = assert_error(answer, 500, "INTERNAL_ERROR")["error_details"]
    assert "boom" in details["exception"]
    assert any("queue_reasons" in line for line in details["traceback"])
    assert key not in answer.content.decode()


def test_a_database_that_is_away_is_503_with_retry_after(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    monkeypatch.setattr(services, "queue_reasons", _raising(OperationalError("connection refused")))

    answer = api.get(f"tasks/{task.pk}/status")

    assert_error(answer, 503, "SERVICE_UNAVAILABLE")
    assert int(answer["Retry-After"]) > 0
    assert "refused" not in answer.content.decode()


def test_an_error_outside_of_the_views_is_in_the_envelope(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django.middleware.csrf.CsrfViewMiddleware.process_view", _raising(OperationalError("gone"))
    )

    assert_error(api.get("tasks"), 503, "SERVICE_UNAVAILABLE")


def test_an_unknown_path_in_debug_is_no_html_page(api: Api, settings: Any) -> None:
    settings.DEBUG = True

    assert_error(api.get("nothing"), 404, "NOT_FOUND")


def test_a_uuid_of_the_client_is_the_request_s_id(api: Api) -> None:
    mine = str(uuid.uuid4())

    assert api.get("tasks", headers={"X-Request-ID": mine})["X-Request-ID"] == mine
    assert api.get("nothing", headers={"X-Request-ID": mine}).json()["request_id"] == mine


@pytest.mark.parametrize("bad", ["1", "x" * 36, "evil\tid", "{550e8400-e29b-41d4-a716-446655440000}"])
def test_any_other_id_is_replaced(api: Api, bad: str) -> None:
    given = api.get("tasks", headers={"X-Request-ID": bad})["X-Request-ID"]

    assert given != bad
    assert str(uuid.UUID(given)) == given


@pytest.mark.parametrize("path", ["", "tasks", "devices", "cluster/status", "tasks/types"])
def test_both_slash_forms_answer_without_a_redirect(api: Api, path: str) -> None:
    assert api.get(path or "/api/v1").status_code == 200
    assert api.get(f"{path}/" if path else "/api/v1/").status_code == 200


def test_a_post_works_with_a_slash(api: Api) -> None:
    assert api.post("tasks/", {"task_type": "echo", "payload": {}}).status_code == 201


@pytest.mark.parametrize("query", ["surprise=1", "format=xml", "page=&status=", "%ff=%fe"])
def test_unknown_or_empty_parameters_are_ignored(api: Api, query: str) -> None:
    assert api.get(f"tasks?{query}").status_code == 200


def test_a_get_may_say_that_its_empty_body_is_json(api: Api) -> None:
    assert api.get("tasks", headers={"Content-Type": "application/json"}).status_code == 200


def test_the_index_links_to_what_exists(api: Api, keyed: Callable[..., Api]) -> None:
    links = api.data("/api/v1")["links"]
    admin = keyed(Scope.ADMIN)

    plain = [link for link in links.values() if "{" not in link]
    assert len(plain) >= 4
    answers = {link: admin.get(link) for link in plain}
    missing = [link for link, answer in answers.items() if answer.status_code not in (200, 405)]
    assert missing == []
    for_post = [answer for answer in answers.values() if answer.status_code == 405]
    assert all("POST" in answer["Allow"] for answer in for_post)


def test_head_answers_like_get_without_a_body(api: Api) -> None:
    answer = api.send("HEAD", "tasks")

    assert answer.status_code == 200
    assert answer.content == b""


def test_elsewhere_an_unknown_path_is_one_plain_line(client: Client) -> None:
    answer = client.get("/nothing", headers={"Host": "localhost"})

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/plain")
    assert b"/api/v1" in answer.content


def _raising(error: Exception) -> Any:
    def queue_reasons(*args: Any, **kwargs: Any) -> Any:
        raise error

    return queue_reasons
