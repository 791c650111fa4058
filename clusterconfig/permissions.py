"""Who may do what. Reading is open unless `--auth all`; running code needs a key unless loopback is trusted."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from clusterconfig.audit import Actor
from clusterconfig.keys import ALL_SCOPES, KeyHolder, Scope
from retire_cluster import hosts
from retire_cluster.api.envelope import request_id

loopback_privilege = False
"""Set by `retire-cluster-api` in its own process once it has bound a loopback socket itself; by nothing else."""

FORWARDING_HEADERS = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_REAL_IP",
    "HTTP_X_FORWARDED",
)
FORWARDING_PREFIX = "HTTP_X_FORWARDED_"


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


def client_address(request: Request) -> str:
    """The peer's address."""
    return str(request.META.get("REMOTE_ADDR", ""))


class OpenRead(BasePermission):
    """Anybody may read, unless `--auth all`; changes need a key or a session."""

    message = "this needs an API key: send it as X-API-Key, or as Authorization: Bearer"

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS and settings.AUTH != "all":
            return True
        return bool(scopes(request))


class OpenSubmit(OpenRead):
    """Anybody may submit, unless `--auth all`; `require_right_to_run` judges the task's type."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return settings.AUTH != "all" or super().has_permission(request, view)


class NeedsKey(OpenRead):
    """A key or a session, always."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(scopes(request))


def require_right_to_run(request: Request, task_type: str, harmless: tuple[str, ...]) -> None:
    """Raise 401 or 403 unless the caller may run tasks of the type. All but the harmless types run code."""
    granted = scopes(request)
    wanted = Scope.SUBMIT if task_type in harmless else Scope.EXECUTE
    if wanted in granted:
        return
    if granted:
        raise PermissionDenied(
            f"tasks of type {task_type!r} need the scope {wanted.value!r}; this key has not got it"
        )
    if wanted is Scope.SUBMIT or _is_trusted_loopback(request._request):
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
