"""Keys, hosts, origins: who gets in and who does not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from django.utils import timezone
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from clusterconfig import keys
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey
from clusterconfig.permissions import NeedsKey, needs
from tests.contract.conftest import Api

pytestmark = pytest.mark.django_db

ECHO = '{"task_type": "echo", "payload": {}}'


@pytest.mark.parametrize("path", ["", "tasks", "tasks/types", "devices/x", "cluster/status", "nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "rck_" + "0" * 64},
        {"X-API-Key": "k\xe9y"},
        {"X-API-Key": "k" * 10_000},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "bearer"},
        {"Authorization": "BEARER \xff"},
    ],
)
def test_a_wrong_key_is_401_everywhere(path: str, headers: dict[str, str]) -> None:
    answer = Api(**headers).get(path or "/api/v1")

    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHORIZED")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["X-API-Key: {}", "Authorization: Bearer {}", "Authorization: bEaReR {}"])
def test_a_right_key_opens_by_either_header(header: str, settings: Any) -> None:
    settings.AUTH = "all"
    key, _ = keys.create("me", [Scope.READ], now=timezone.now())
    name, value = header.format(key).split(": ")

    assert Api(**{name: value}).get("tasks").status_code == 200


def test_one_wrong_key_of_two_is_still_wrong() -> None:
    key, _ = keys.create("me", [Scope.READ], now=timezone.now())

    assert Api(**{"X-API-Key": key, "Authorization": "Bearer wrong"}).get("tasks").status_code == 401


def test_another_scheme_is_no_key(api: Api) -> None:
    assert api.get("tasks", headers={"Authorization": "Basic eDp5"}).status_code == 200


def test_a_configured_key_may_be_any_text(settings: Any) -> None:
    settings.API_KEYS = ["your-secret-key", "schlüssel"]
    settings.AUTH = "all"

    assert Api(**{"X-API-Key": "your-secret-key"}).get("tasks").status_code == 200
    assert Api(**{"X-API-Key": "schlüssel".encode().decode("latin-1")}).get("tasks").status_code == 200
    assert ApiKey.objects.count() == 0


def test_auth_all_closes_everything_but_health(api: Api, settings: Any, client: Client) -> None:
    settings.AUTH = "all"

    for path in ("/api/v1", "tasks", "devices", "cluster/status", "tasks/types", "nothing"):
        assert api.get(path).status_code == 401, path
    assert api.post("tasks", ECHO).status_code == 401
    assert api.get("/health").status_code == 200
    page = client.get("/", headers={"Host": "localhost"})
    assert (page.status_code, page["Location"]) == (302, "/sign-in/?next=/")


def test_revoked_and_expired_keys_are_refused_with_the_reason() -> None:
    now = timezone.now()
    revoked, row = keys.create("a", [Scope.ADMIN], now=now)
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=now)
    expired, _ = keys.create("b", [Scope.ADMIN], now=now, expires_at=now - timedelta(seconds=1))

    assert "revoked" in Api(**{"X-API-Key": revoked}).get("tasks").json()["message"]
    assert "expired" in Api(**{"X-API-Key": expired}).get("tasks").json()["message"]


def test_the_last_use_is_written_once_a_minute() -> None:
    now = timezone.now()
    key, row = keys.create("a", [Scope.READ], now=now)
    moments = []
    for seconds in (0, 59, 60, 61):
        keys.verify(key, now=now + timedelta(seconds=seconds))
        row.refresh_from_db()
        moments.append(row.last_used_at)

    assert moments == [now, now, now + timedelta(seconds=60), now + timedelta(seconds=60)]


def test_only_the_hash_of_a_key_is_stored() -> None:
    key, row = keys.create("a", [Scope.READ], now=timezone.now())

    assert key.startswith("rck_")
    assert key not in str(vars(row))
    assert (row.prefix, len(row.prefix)) == (key[:16], 16)


@pytest.mark.parametrize(
    ("given", "effective"),
    [
        ([Scope.READ], {Scope.READ}),
        ([Scope.EXECUTE], {Scope.EXECUTE, Scope.SUBMIT}),
        ([Scope.ADMIN], set(Scope)),
        ([], set()),
    ],
)
def test_scopes_include_what_they_imply(given: list[Scope], effective: set[Scope]) -> None:
    key, _ = keys.create("a", given, now=timezone.now())

    assert keys.verify(key, now=timezone.now()).scopes == effective


def test_the_admin_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    now = timezone.now()

    key, created = keys.ensure_admin_key(tmp_path, now=now)
    again = keys.ensure_admin_key(tmp_path, now=now)

    assert (created, again) == (True, (key, False))
    assert (tmp_path / "api-key").stat().st_mode & 0o777 == 0o600
    assert keys.verify(key, now=now).scopes == frozenset(Scope)


@pytest.mark.parametrize("change", ["deleted", "revoked"])
def test_an_admin_key_that_opens_nothing_is_replaced(tmp_path: Path, change: str) -> None:
    now = timezone.now()
    key, _ = keys.ensure_admin_key(tmp_path, now=now)
    if change == "deleted":
        ApiKey.objects.all().delete()
    else:
        ApiKey.objects.update(revoked_at=now)

    new, created = keys.ensure_admin_key(tmp_path, now=now)

    assert created
    assert new != key
    assert (tmp_path / "api-key").read_text().strip() == new
    assert keys.verify(new, now=now)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8081",
        "127.0.0.1:8081",
        "[::1]:8081",
        "192.168.1.5",
        "x.localhost",
        "localhost.",
    ],
)
def test_names_of_this_machine_and_addresses_are_served(api: Api, host: str) -> None:
    assert api.get("tasks", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a b", "", "[::1"]
)
def test_other_names_are_400(api: Api, host: str) -> None:
    answer = api.get("tasks", headers={"Host": host}, SERVER_NAME="evil.example")

    assert (answer.status_code, answer.json()["error_code"]) == (400, "VALIDATION_ERROR")
    assert "RETIRE_CLUSTER_ALLOWED_HOSTS" in answer.json()["message"]


@pytest.mark.parametrize(
    ("pattern", "host"), [("cluster.lan", "Cluster.lan"), (".example.org", "a.example.org")]
)
def test_further_names_are_a_setting(api: Api, settings: Any, pattern: str, host: str) -> None:
    settings.EXTRA_ALLOWED_HOSTS = [pattern]

    assert api.get("tasks", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost:8081.evil.example"},
        {"Origin": "http://localhost:8081@evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_of_another_site_may_change_nothing(api: Api, headers: dict[str, str], method: str) -> None:
    answer = api.send(method, "tasks", data=ECHO, content_type="application/json", headers=headers)

    assert (answer.status_code, answer.json()["error_code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8081"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_own_pages_and_programs_may(api: Api, headers: dict[str, str]) -> None:
    assert api.post("tasks", ECHO, headers=headers).status_code == 201


def test_an_allowed_origin_may_write_and_read(api: Api, settings: Any) -> None:
    settings.ALLOWED_ORIGINS = ["https://ui.example"]
    origin = {"Origin": "https://ui.example", "Sec-Fetch-Site": "cross-site"}

    preflight = api.send("OPTIONS", "tasks", headers={**origin, "Access-Control-Request-Method": "POST"})
    answer = api.post("tasks", ECHO, headers=origin)

    assert preflight.status_code == 204
    assert "X-API-Key" in preflight["Access-Control-Allow-Headers"]
    assert answer.status_code == 201
    assert answer["Access-Control-Allow-Origin"] == "https://ui.example"
    assert "Origin" in answer["Vary"]


def test_strangers_get_no_cors_headers(api: Api) -> None:
    answer = api.get("tasks", headers={"Origin": "http://evil.example"})

    assert answer.status_code == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def _signed_in(*, staff: bool, csrf: bool) -> Client:
    user = User.objects.create_user("ann", password="x", is_staff=staff)
    client = Client(SERVER_NAME="localhost", enforce_csrf_checks=csrf)
    client.force_login(user)
    return client


def test_a_session_needs_its_csrf_token_to_change_anything() -> None:
    client = _signed_in(staff=True, csrf=True)

    answer = client.post("/api/v1/tasks", ECHO, content_type="application/json")

    assert (answer.status_code, answer.json()["error_code"]) == (403, "FORBIDDEN")


def test_an_operator_s_session_is_as_good_as_a_key(settings: Any) -> None:
    settings.AUTH = "all"
    client = _signed_in(staff=True, csrf=False)

    assert client.get("/api/v1/tasks").status_code == 200
    assert client.post("/api/v1/tasks", ECHO, content_type="application/json").status_code == 201


def test_a_session_s_form_is_read_as_json_values() -> None:
    client = _signed_in(staff=True, csrf=False)

    answer = client.post(
        "/api/v1/tasks",
        "task_type=echo&payload=%7B%22x%22%3A+1%7D&priority=&csrfmiddlewaretoken=abc",
        content_type="application/x-www-form-urlencoded",
    )

    assert answer.status_code == 201
    detail = client.get(answer["Location"]).json()["data"]
    assert (detail["payload"], detail["priority"]) == ({"x": 1}, "normal")


def test_a_session_without_staff_rights_runs_no_code() -> None:
    client = _signed_in(staff=False, csrf=False)

    answer = client.post(
        "/api/v1/tasks", '{"task_type":"command","payload":{}}', content_type="application/json"
    )

    assert answer.status_code == 403


def _asked(permission: type[BasePermission], user: Any) -> bool:
    request = Request(APIRequestFactory().post("/"))
    request.user = user
    return permission().has_permission(request, APIView())


def test_a_permission_class_asks_for_its_scope() -> None:
    holder = keys.KeyHolder("key:x", frozenset({Scope.OPERATE}), "x")

    assert _asked(needs(Scope.OPERATE), holder)
    with pytest.raises(PermissionDenied, match="'admin'; this key"):
        _asked(needs(Scope.ADMIN), holder)
    with pytest.raises(PermissionDenied, match="'operate'; this user"):
        _asked(needs(Scope.OPERATE), User(username="ann"))
    with pytest.raises(NotAuthenticated, match="X-API-Key"):
        _asked(needs(Scope.OPERATE), AnonymousUser())


def test_any_key_will_do_where_only_a_key_is_asked_for() -> None:
    assert _asked(NeedsKey, keys.KeyHolder("key:x", frozenset(), "x"))
    assert _asked(NeedsKey, User(username="ann"))
    with pytest.raises(NotAuthenticated):
        _asked(NeedsKey, AnonymousUser())
