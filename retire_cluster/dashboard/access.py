"""Who may see a page and who may press its buttons.

Reading is open unless `--auth all`; a button needs a signed-in user with the scope it stands for: a member of staff
has every scope, any other user `read` and `submit`, as in the API.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from rest_framework.exceptions import NotAuthenticated
from rest_framework.exceptions import PermissionDenied as RightMissing
from rest_framework.request import Request

from clusterconfig import permissions
from clusterconfig import services as config
from clusterconfig.keys import Scope
from retire_cluster import fallback
from retire_cluster.api import remembered
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.events import position
from retire_cluster.protocol.tasktypes import HARMLESS_TYPES

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]
SIGN_IN = "dashboard:sign-in"
SESSION_ENDED = "your session has ended: sign in in another tab, go back to this form, and send it again"
CURSOR = "retire_cluster.cursor"
"""Key in META: where the stream of events was before anything else was read for the page."""


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """Why a button did nothing, in a sentence for the person who pressed it."""

    reason: str


def caller(request: HttpRequest) -> Request:
    """The visitor as the API's permission rules know callers."""
    wrapped = Request(request)
    wrapped.user = request.user
    return wrapped


def may(request: HttpRequest, scope: Scope) -> bool:
    """Whether the visitor's buttons of that scope work."""
    return scope in permissions.scopes(caller(request))


def page(view: View[P]) -> View[P]:
    """A page to read."""
    return require_safe(never_cache(_readable(view)))


def form(view: View[P]) -> View[P]:
    """A page to read that also takes what was filled in; the view judges who may send it."""
    return require_http_methods(["GET", "HEAD", "POST"])(never_cache(_readable(view)))


def staff_form(view: View[P]) -> View[P]:
    """A page for administrators only, to read and to send."""
    return require_http_methods(["GET", "HEAD", "POST"])(never_cache(_scoped(view, Scope.ADMIN)))


def own_form(view: View[P]) -> View[P]:
    """A page for whoever is signed in, to read and to send."""
    return require_http_methods(["GET", "HEAD", "POST"])(never_cache(_scoped(view, Scope.READ)))


def action(scope: Scope) -> Callable[[View[P]], View[P]]:
    """A button: POST, by a visitor with the scope. What it did or why not is said on the page it leads back to."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            try:
                return view(request, *args, **kwargs)
            except Refusal as refusal:
                messages.error(request, refusal.reason)
                return back(request)

        return require_POST(never_cache(_scoped(answer, scope)))

    return decorate


def back(request: HttpRequest, otherwise: str = "dashboard:overview") -> HttpResponse:
    """To the page the button stood on, as its form says in `next`."""
    wanted = request.POST.get("next", "")
    local = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure())
    return HttpResponseRedirect(wanted if wanted.startswith("/") and local else reverse(otherwise))


def _readable(view: View[P]) -> View[P]:
    @wraps(view)
    def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if settings.AUTH == "all" and not request.user.is_authenticated:
            return _to_sign_in(request)
        return _drawn(view, request, *args, **kwargs)

    return answer


def _scoped(view: View[P], scope: Scope) -> View[P]:
    @wraps(view)
    def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        if not may(request, scope):
            raise PermissionDenied(f"your account lacks the right {scope.value!r}; ask an administrator")
        return _drawn(view, request, *args, **kwargs)

    return answer


def _drawn(view: View[P], request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
    _refuse_nul(request)
    request.META[CURSOR] = position.end(config.stream())
    with remembered.noted():
        return view(request, *args, **kwargs)


def _refuse_nul(request: HttpRequest) -> None:
    """Nothing here may hold the NUL character, and PostgreSQL would refuse it with a server error."""
    for given in (request.GET, request.POST):
        for name, values in given.lists():
            if any("\0" in text for text in (name, *values)):
                raise BadRequest(f"{name[:40]!r} holds the NUL character")


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """A page is come back to after signing in; a button cannot be pressed by an address, its page can."""
    if "HX-Request" in request.headers:  # a part of a page: it must not get a whole one
        return HttpResponse(SESSION_ENDED, status=401, content_type="text/plain; charset=utf-8")
    if request.method == "POST" and "next" not in request.POST and settings.AUTH == "all":
        # What was filled in is still in the browser's history.
        return fallback.refusal(request, Failure(401, ErrorCode.UNAUTHORIZED, SESSION_ENDED))
    target: Any = (
        request.get_full_path() if request.method in ("GET", "HEAD") else request.POST.get("next", "/")
    )
    return redirect_to_login(target, reverse(SIGN_IN))


def may_run(request: HttpRequest, task_type: str) -> str:
    """Why the visitor may not run tasks of the type; empty when they may. The API's own rules."""
    try:
        if settings.AUTH == "all" and not may(request, Scope.SUBMIT):
            return "sign in with an account that may submit tasks"
        permissions.require_right_to_run(caller(request), task_type, HARMLESS_TYPES)
    except NotAuthenticated:
        return f"tasks of type {task_type} run code: sign in first"
    except RightMissing as refusal:
        return str(refusal.detail)
    return ""
