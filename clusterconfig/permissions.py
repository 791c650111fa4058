"""Who may do what. Reading is open unless `--auth all`; running code needs a key unless loopback is trusted.

A session of a member of staff has every scope, one of any other user `read` and `submit`.
"""

from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from clusterconfig.audit import Actor
from clusterconfig.keys import ALL_SCOPES, KeyHolder, Scope
from retire_cluster import hosts
from retire_cluster.api import client
from retire_cluster.api.envelope import request_id
from retire_cluster.api.redaction import hide_members
from retire_cluster.protocol.tasktypes import HARMLESS_TYPES

loopback_privilege = False
"""Set by `retire-cluster-api` in its own process once it has bound a loopback socket itself; by nothing else."""

FORWARDING_HEADERS = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_REAL_IP",
    "HTTP_X_FORWARDED",
)
FORWARDING_PREFIX = "HTTP_X_FORWARDED_"
SECRET_MEMBERS = ("env", "headers", "data")  # of a payload: where tokens and passwords are put
MAX_PRINCIPAL = 100  # characters kept with a task
NEEDS_KEY = "this needs an API key: send it as X-API-Key, or as Authorization: Bearer"


def scopes(request: Request) -> frozenset[Scope]:
    """What the caller may do beyond what is open to everybody."""
    user: Any = request.user
    if isinstance(user, KeyHolder):
        return user.scopes
    if user is None or not user.is_authenticated:
        return frozenset()
    return ALL_SCOPES if user.is_staff else frozenset({Scope.READ, Scope.SUBMIT})


def principal(request: Request) -> str:
    """Who the caller is, for the record; empty for a stranger."""
    user: Any = request.user
    if isinstance(user, KeyHolder):
        return user.principal
    return f"user:{user.get_username()}" if user is not None and user.is_authenticated else ""


def actor(request: Request) -> Actor:
    """The caller as the audit trail names it."""
    return Actor(principal(request), client_address(request), request_id(request._request))


def staff_actor(request: HttpRequest) -> Actor:
    """The signed-in user of an admin page as the audit trail names it."""
    return Actor(f"user:{request.user.get_username()}", client.address(request), request_id(request))


def is_staff(request: HttpRequest) -> bool:
    """Whether a member of staff is signed in: the same right as the scope `admin`."""
    user: Any = request.user
    return bool(user.is_active and user.is_staff)


def client_address(request: Request) -> str:
    """Where the caller is; behind a trusted proxy, where the proxy saw it."""
    return client.address(request._request)


# --- permission classes ---------------------------------------------------------------------------------------


class OpenRead(BasePermission):
    """Anybody may read, unless `--auth all`: then it needs the scope `read`. Changes need a key or a session."""

    open_to_all: ClassVar[tuple[str, ...]] = ("GET",)  # without `--auth all`; for the API's description

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method not in SAFE_METHODS:
            _require_key(request)
        elif settings.AUTH == "all":
            _require_scope(request, Scope.READ)
        return True


class OpenSubmit(OpenRead):
    """Anybody may submit, unless `--auth all`; a key needs `submit`. `require_right_to_run` judges the type."""

    open_to_all = ("GET", "POST")

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            return super().has_permission(request, view)
        if settings.AUTH == "all" or is_known(request):
            _require_scope(request, Scope.SUBMIT)
        return True


class NeedsKey(BasePermission):
    """Any valid key or session, whatever its scopes."""

    def has_permission(self, request: Request, view: Any) -> bool:
        _require_key(request)
        return True


class NeedsScope(BasePermission):
    """A key or session with one scope, for every method; made by `needs`."""

    scope: ClassVar[Scope]

    def has_permission(self, request: Request, view: Any) -> bool:
        _require_scope(request, self.scope)
        return True


@cache
def needs(scope: Scope) -> type[NeedsScope]:
    """The permission class of a scope: `permission_classes = (needs(Scope.OPERATE),)`."""
    return type(f"Needs{scope.name.title()}", (NeedsScope,), {"scope": scope})


def is_known(request: Request) -> bool:
    """Whether the caller presented a valid key or is signed in."""
    user: Any = request.user
    return user is not None and bool(user.is_authenticated)


def _require_key(request: Request) -> None:
    if not is_known(request):
        raise NotAuthenticated(NEEDS_KEY)


def _require_scope(request: Request, scope: Scope) -> None:
    _require_key(request)
    if scope not in scopes(request):
        raise PermissionDenied(f"this needs the scope {scope.value!r}; {_caller(request)} has not got it")


def _caller(request: Request) -> str:
    user: Any = request.user
    return "this key" if isinstance(user, KeyHolder) else "this user"


# --- running code ---------------------------------------------------------------------------------------------


def require_right_to_run(request: Request, task_type: str, harmless: tuple[str, ...]) -> None:
    """Raise 401 or 403 unless the caller may run tasks of the type. All but the harmless types run code."""
    if not is_known(request):
        _require_open_type(request, task_type, harmless)
    elif task_type in harmless:
        _require_scope(request, Scope.SUBMIT)
    elif not _may_execute(request, task_type):
        raise PermissionDenied(_why_not(request, task_type))


def may_see_payload(request: Request, submitted_by: str, task_type: str) -> bool:
    """Whether the caller is shown the secret parts of a task's payload.

    That is whoever may run code of that type, and whoever submitted the task; `submitted_by` is its principal.
    Types that run no code have no such parts.
    """
    caller = principal(request)
    if task_type in HARMLESS_TYPES:
        return True
    if not caller:
        return _is_trusted_loopback(request._request)
    return caller[:MAX_PRINCIPAL] == submitted_by or _may_execute(request, task_type)


def shown_payload(request: Request, payload_json: str, submitted_by: str, task_type: str) -> str:
    """The JSON text of a payload as the caller may see it."""
    if may_see_payload(request, submitted_by, task_type):
        return payload_json
    return hide_members(payload_json, SECRET_MEMBERS)


def _may_execute(request: Request, task_type: str) -> bool:
    if Scope.EXECUTE not in scopes(request):
        return False
    user: Any = request.user
    only = user.task_types if isinstance(user, KeyHolder) else frozenset()
    return not only or task_type in only


def _why_not(request: Request, task_type: str) -> str:
    user: Any = request.user
    if Scope.EXECUTE in scopes(request):
        return f"this key runs only tasks of type {', '.join(sorted(user.task_types))}, not {task_type!r}"
    return f"tasks of type {task_type!r} need the scope 'execute'; {_caller(request)} has not got it"


def _require_open_type(request: Request, task_type: str, harmless: tuple[str, ...]) -> None:
    if settings.AUTH == "all":
        raise NotAuthenticated(NEEDS_KEY)
    if task_type in harmless or _is_trusted_loopback(request._request):
        return
    raise NotAuthenticated(
        f"tasks of type {task_type!r} need an API key (X-API-Key); only {', '.join(harmless)} run without one"
    )


def _is_trusted_loopback(request: HttpRequest) -> bool:
    """Whether the request came straight from this machine to a launcher that listens nowhere else."""
    meta = request.META
    return (
        loopback_privilege
        and not settings.AUTH
        and not settings.TRUSTED_PROXIES
        and hosts.is_loopback(meta.get("REMOTE_ADDR", ""))
        and hosts.is_loopback(hosts.host_name(meta.get("HTTP_HOST", "")))
        and not any(name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIX) for name in meta)
    )
