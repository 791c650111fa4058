"""Every route, with every method, for every kind of caller: who gets in, who does not, and nobody forgotten."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from clusterconfig import keys
from clusterconfig.keys import Scope

pytestmark = pytest.mark.django_db

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET",)
SCOPES = tuple(scope.value for scope in Scope)
CALLERS = ("nobody", "wrong key", *SCOPES, "staff", "user", "staff without CSRF token")
IN, NO_KEY, FORBIDDEN = "in", 401, 403

# Who may call what, by a word of OPENED_BY; `open` is for everybody, `page` for everybody without `--auth all`,
# `signed in` for sessions. What stands on the dashboard's pages test_dashboard.py tries for every visitor.
TABLE = {
    ("GET", "health"): "open",
    ("GET", "favicon.ico"): "open",
    ("GET", "agent.pyz"): "open",
    ("GET", ""): "page",
    ("GET", "devices"): "page",
    ("GET", "devices/{}"): "page",
    ("POST", "devices/{}/ping"): "operator's button",
    ("POST", "devices/{}/cordon"): "operator's button",
    ("POST", "devices/{}/uncordon"): "operator's button",
    ("POST", "devices/{}/drain"): "operator's button",
    ("POST", "devices/{}/remove"): "operator's button",
    ("GET", "tasks"): "page",
    ("GET", "tasks/{}"): "page",
    ("GET", "tasks/{}/output"): "page",
    ("POST", "tasks/cancel"): "operator's button",
    ("POST", "tasks/retry"): "operator's button",
    ("GET", "submit"): "page",
    ("POST", "submit"): "page",
    ("GET", "submit/matches"): "page",
    ("POST", "submit/matches"): "page",
    ("GET", "add-device"): "page",
    ("POST", "add-device/token"): "administrator's button",
    ("GET", "activity"): "page",
    ("GET", "settings"): "administrator's button",
    ("POST", "settings"): "administrator's button",
    ("POST", "settings/keys"): "administrator's button",
    ("POST", "settings/keys/{}/revoke"): "administrator's button",
    ("POST", "settings/tokens/{}/revoke"): "administrator's button",
    ("GET", "sign-in"): "open",
    ("POST", "sign-in"): "open",
    ("GET", "sign-in/once"): "open",
    ("POST", "sign-in/once"): "open",
    ("POST", "sign-out"): "open",
    ("GET", "account"): "signed in",
    ("POST", "account"): "signed in",
    ("GET", "metrics"): "read",
    ("GET", "ws"): "read",
    ("GET", "api/schema"): "read",
    ("GET", "api/docs"): "read",
    ("GET", "api/redoc"): "read",
    ("GET", "api/v1"): "read",
    ("GET", "api/v1/cluster/status"): "read",
    ("GET", "api/v1/cluster/metrics"): "read",
    ("GET", "api/v1/cluster/config"): "key",
    ("GET", "api/v1/devices"): "read",
    ("GET", "api/v1/devices/summary"): "read",
    ("GET", "api/v1/devices/{}"): "read",
    ("DELETE", "api/v1/devices/{}"): "operate",
    ("GET", "api/v1/devices/{}/status"): "read",
    ("GET", "api/v1/devices/{}/metrics"): "read",
    ("POST", "api/v1/devices/{}/ping"): "operate",
    ("POST", "api/v1/devices/{}/cordon"): "operate",
    ("POST", "api/v1/devices/{}/uncordon"): "operate",
    ("POST", "api/v1/devices/{}/drain"): "operate",
    ("GET", "api/v1/tasks"): "read",
    ("POST", "api/v1/tasks"): "submit",
    ("POST", "api/v1/tasks/batch"): "submit",
    ("GET", "api/v1/tasks/types"): "read",
    ("GET", "api/v1/tasks/statistics"): "read",
    ("GET", "api/v1/tasks/results"): "read",
    ("GET", "api/v1/tasks/{}"): "read",
    ("GET", "api/v1/tasks/{}/status"): "read",
    ("GET", "api/v1/tasks/{}/result"): "read",
    ("GET", "api/v1/tasks/{}/explain"): "read",
    ("GET", "api/v1/tasks/{}/logs"): "read",
    ("POST", "api/v1/tasks/{}/cancel"): "operate",
    ("POST", "api/v1/tasks/{}/retry"): "operate",
    ("GET", "api/v1/config"): "admin",
    ("GET", "api/v1/config/{}"): "admin",
    ("PUT", "api/v1/config/{}"): "admin",
    ("POST", "api/v1/config/reset"): "admin",
    ("GET", "api/v1/keys"): "admin",
    ("POST", "api/v1/keys"): "admin",
    ("GET", "api/v1/keys/{}"): "admin",
    ("DELETE", "api/v1/keys/{}"): "admin",
    ("GET", "api/v1/join-tokens"): "admin",
    ("POST", "api/v1/join-tokens"): "admin",
    ("GET", "api/v1/join-tokens/{}"): "admin",
    ("DELETE", "api/v1/join-tokens/{}"): "admin",
    ("GET", "api/v1/audit"): "admin",
    ("POST", "api/v1/ws-tickets"): "known reader",
}
# Django's and REST framework's own pages, and the answer to unknown paths.
ELSEWHERE = ("admin/", "api/auth/", "api(?:/.*)")

# Which of the scopes opens a row; a member of staff has all, another user `read` and `submit`.
OPENED_BY = {
    "read": {"read", "admin"},
    "known reader": {"read", "admin"},
    "submit": {"submit", "execute", "admin"},
    "key": set(SCOPES),
    "operate": {"operate", "admin"},
    "admin": {"admin"},
}
OF_A_USER = {"read", "submit"}


def expected(rule: str, method: str, caller: str, auth: str) -> object:
    """IN, or the status that keeps the caller out."""
    if rule == "open":
        return IN
    if caller == "wrong key":
        return NO_KEY
    if caller == "staff without CSRF token" and method not in SAFE:
        return FORBIDDEN
    if auth != "all" and (rule == "read" or (rule == "submit" and caller == "nobody")):
        return IN
    if caller == "nobody":
        return NO_KEY
    granted = {"user": OF_A_USER, **{scope: {scope} for scope in SCOPES}}.get(caller, set(SCOPES))
    return IN if granted & OPENED_BY[rule] else FORBIDDEN


# --- the routes there are -------------------------------------------------------------------------------------


def routes() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(path with {} for what varies, view) of everything the resolver knows."""

    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern).removeprefix("^")
            if path.startswith(ELSEWHERE):
                continue
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern):
                yield _readable(path), pattern.callback

    yield from walk(get_resolver().url_patterns, "")


def _readable(pattern: str) -> str:
    """A route's regular expression, or path with converters, as a path with {} for what varies."""
    plain = re.sub(r"\(\?P<\w+>(?:[^()]|\([^()]*\))*\)", "{}", pattern)
    plain = re.sub(r"<(?:\w+:)?\w+>", "{}", plain)
    return plain.replace("/?$", "").replace("$", "").replace(r"\.", ".").removesuffix("/")


def methods_of(view: Any) -> set[str]:
    """What a view answers besides HEAD and OPTIONS."""
    if hasattr(view, "actions") and view.actions:
        return {method.upper() for method in view.actions} & set(METHODS)
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if view_class is None:  # a function: it says so when asked for what no page does
        return set(view(RequestFactory().generic("BREW", "/"))["Allow"].split(", ")) & set(METHODS)
    return {method for method in METHODS if hasattr(view_class, method.lower())}


def census() -> set[tuple[str, str]]:
    return {(method, path) for path, view in routes() for method in methods_of(view)}


def test_no_route_is_forgotten() -> None:
    assert census() - TABLE.keys() == set()


def test_no_row_is_about_a_route_that_is_not_there() -> None:
    assert TABLE.keys() - census() == set()


def test_a_forgotten_route_would_be_found() -> None:
    assert ("GET", "api/v1/tasks/{}/status") in census()
    assert _readable(r"api/v1/^tasks/(?P<pk>[^/]+)/x/?$".replace("^", "")) == "api/v1/tasks/{}/x"
    assert _readable(r"config/(?P<section>(server|heartbeat))/?$") == "config/{}"
    assert _readable("x/<int:number>/") == "x/{}"


# --- every caller at every door -------------------------------------------------------------------------------


@pytest.fixture
def callers(db: None) -> dict[str, tuple[Client, dict[str, str]]]:
    """A client and its headers for each kind of caller."""

    def client(*, staff: bool | None = None, csrf: bool = False) -> Client:
        made = Client(SERVER_NAME="localhost", enforce_csrf_checks=csrf, raise_request_exception=False)
        if staff is not None:
            name = f"{'staff' if staff else 'user'}{csrf}"
            made.force_login(User.objects.create_user(name, is_staff=staff))
        return made

    with_key = {
        scope.value: {"X-API-Key": keys.create("census", [scope], now=timezone.now())[0]} for scope in Scope
    }
    return {
        "nobody": (client(), {}),
        "wrong key": (client(), {"X-API-Key": "wrong"}),
        **{name: (client(), headers) for name, headers in with_key.items()},
        "staff": (client(staff=True), {}),
        "user": (client(staff=False), {}),
        "staff without CSRF token": (client(staff=True, csrf=True), {}),
    }


def _call(caller: tuple[Client, dict[str, str]], method: str, path: str) -> int:
    client, headers = caller
    filled = "/" + path.replace("config/{}", "config/heartbeat").replace("{}", "x")
    answer = client.generic(method, filled, data=b"{}", content_type="application/json", headers=headers)
    return int(answer.status_code)


def _outcome(status: int) -> object:
    """IN for every answer that the caller's rights did not decide."""
    assert status < 500
    return status if status in (NO_KEY, FORBIDDEN) else IN


API_ROWS = sorted(row for row in TABLE.keys() & census() if row[1].startswith(("api/v1", "health")))


@pytest.mark.parametrize("auth", ["", "on", "all"])
@pytest.mark.parametrize(("method", "path"), API_ROWS)
def test_who_gets_in(callers: dict[str, Any], settings: Any, auth: str, method: str, path: str) -> None:
    settings.AUTH = auth
    outcomes = {name: _outcome(_call(callers[name], method, path)) for name in CALLERS}

    assert outcomes == {name: expected(TABLE[method, path], method, name, auth) for name in CALLERS}


@pytest.mark.parametrize("path", sorted({path for _, path in API_ROWS}))
def test_other_methods_open_nothing(callers: dict[str, Any], path: str) -> None:
    others = [method for method in METHODS if (method, path) not in TABLE]
    statuses = {_call(callers[name], method, path) for method in others for name in CALLERS}

    assert statuses <= {401, 403, 404, 405}


@pytest.mark.parametrize(("method", "path"), [row for row in API_ROWS if row[1] != "health"])
def test_a_trailing_slash_changes_nothing(callers: dict[str, Any], method: str, path: str) -> None:
    for name in ("nobody", "admin"):
        assert _call(callers[name], method, path) == _call(callers[name], method, path + "/")


@pytest.mark.parametrize("path", ["admin/", "admin/clusterconfig/apikey/", "admin/clusterconfig/apikey/add/"])
def test_the_admin_is_for_staff(callers: dict[str, Any], path: str) -> None:
    for name in ("nobody", "wrong key", *SCOPES, "user"):
        assert _call(callers[name], "GET", path) == 302, name


@pytest.mark.parametrize("auth", ["", "all"])
def test_a_wrong_key_is_refused_at_unknown_paths_too(
    callers: dict[str, Any], settings: Any, auth: str
) -> None:
    settings.AUTH = auth

    assert _call(callers["wrong key"], "GET", "api/v1/nothing") == 401
    assert _call(callers["read"], "GET", "api/v1/nothing") == 404
    assert _call(callers["nobody"], "GET", "api/v1/nothing") == (401 if auth else 404)


def test_auth_all_closes_everything_but_health_and_the_way_in(callers: dict[str, Any], settings: Any) -> None:
    settings.AUTH = "all"
    forms = [form for path, _ in routes() for form in (path, f"{path}/")]
    statuses = {form: _call(callers["nobody"], "GET", form) for form in forms}

    assert {form for form, status in statuses.items() if status < 300} == {
        "health",
        "health/",
        "sign-in/",
        "agent.pyz",
    }
