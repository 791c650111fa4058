"""What every request passes: id, log line, whom it may come from, what browsers may do with the answer."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from rest_framework.response import Response

from retire_cluster import fallback, hosts, logs, zipapp
from retire_cluster.api import bodies, client, traffic
from retire_cluster.api.envelope import REQUEST_ID
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.api.exceptions import body_too_large
from retire_cluster.api.pending import MAX_WSGI_WAIT_S, Pending, pending_of
from retire_cluster.postgres import waits

GetResponse = Callable[[HttpRequest], Any]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
WEBSOCKET = "retire_cluster.websocket"
"""Key in META of a WebSocket's handshake: to the page that makes it, more than a GET."""
BRIDGED = "retire_cluster.bridged"
"""Key in META of a request whose server completes pending responses itself."""

logger = logging.getLogger("api.requests")


class RequestMiddleware:
    """The request's id, the size limit of its body, completion of `?wait=` under WSGI, and the log line."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        waits.limit()  # whoever loads this serves requests
        self._waiting = threading.BoundedSemaphore(settings.WSGI_WAITERS) if settings.WSGI_WAITERS else None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        request_id = _accepted_id(request.headers.get("X-Request-ID", ""))
        request.META[REQUEST_ID] = request_id
        with _logged_as(request_id):
            response: HttpResponse = self._answer(request)
            response["X-Request-ID"] = request_id
            pending = pending_of(response)
            if pending is None:
                _log(request, response, request_id, started)
                return response
            pending.on_complete = lambda final: _log(request, final, request_id, started)
            if BRIDGED not in request.META:
                self._wait(request, response, pending)
            return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        most = bodies.limit(request.path)
        if bodies.declared(request.META.get("CONTENT_LENGTH") or "") > most:
            return fallback.refusal(request, body_too_large(most))
        response: HttpResponse = self._get_response(request)
        return response

    def _wait(self, request: HttpRequest, response: HttpResponse, pending: Pending) -> None:
        """Block the request's thread, unless it is the only one or too many wait already."""
        assert isinstance(response, Response)
        threaded = request.META.get("wsgi.multithread", False)
        if threaded and self._waiting is not None and self._waiting.acquire(blocking=False):
            try:
                pending.waiter.wait(min(pending.seconds, MAX_WSGI_WAIT_S))
            finally:
                self._waiting.release()
        pending.complete(response)


def _accepted_id(offered: str) -> str:
    """The client's id if it is a UUID, else a new one."""
    try:
        return str(uuid.UUID(offered)) if len(offered) in (32, 36) else str(uuid.uuid4())
    except ValueError:
        return str(uuid.uuid4())


@contextmanager
def _logged_as(request_id: str) -> Iterator[None]:
    token = logs.request_id.set(request_id)
    try:
        yield
    finally:
        logs.request_id.reset(token)


def _count(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    traffic.window.note(response.status_code)
    match = request.resolver_match
    traffic.counts.note(
        request.method or "", (match.view_name if match else "") or "unknown", response.status_code, seconds
    )
    if traffic.keep is not None and traffic.counts.due():
        traffic.keep()


def _log(request: HttpRequest, response: HttpResponse, request_id: str, started: float) -> None:
    _count(request, response, time.perf_counter() - started)
    facts = {
        "request_id": request_id,
        "method": request.method,
        "path": request.path,
        "status_code": response.status_code,
        "duration_ms": round((time.perf_counter() - started) * 1000, 1),
    }
    logger.info("Request processed", extra=facts)


class ForwardedProtoMiddleware:
    """Takes `X-Forwarded-Proto` from RETIRE_CLUSTER_TRUSTED_PROXIES, and from nobody else, for the scheme.

    It goes where settings.SECURE_PROXY_SSL_HEADER looks: no header of a client can have that name.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        offered = request.headers.get("X-Forwarded-Proto", "")
        if offered and client.is_proxy(request):
            request.META[settings.FORWARDED_SCHEME] = offered.strip().lower()
        response: HttpResponse = self._get_response(request)
        return response


# Public code: a device fetches it under whatever name it knows its gateway by, which no agent ever had to be ours.
FOR_ANY_HOST = frozenset({f"/{zipapp.NAME}"})


class HostMiddleware:
    """Refuses requests for names that are not ours: a page elsewhere must not reach us by renaming itself."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        host = request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", "")
        if request.path in FOR_ANY_HOST or hosts.is_allowed(host, settings.EXTRA_ALLOWED_HOSTS):
            response: HttpResponse = self._get_response(request)
            return response
        reason = "this host name is not allowed; add it to RETIRE_CLUSTER_ALLOWED_HOSTS on the server"
        details = {"field": "Host", "reason": reason}
        return fallback.refusal(request, Failure(400, ErrorCode.VALIDATION_ERROR, reason, details))


class StrictSessionMiddleware(SessionMiddleware):
    """Django's, but a cookie that cannot name a session is none: it may hold NUL, which Postgres refuses."""

    def process_request(self, request: HttpRequest) -> None:
        name = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        if not (name.isascii() and name.isalnum()):
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        super().process_request(request)


class CrossSiteMiddleware:
    """Refuses changes that a page of another site sends; lets the configured origins read and write."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        origin = request.headers.get("Origin", "")
        allowed = origin in settings.ALLOWED_ORIGINS
        if allowed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _with_cors(HttpResponse(status=204), origin, preflight=True)
        unsafe = request.method not in SAFE_METHODS or WEBSOCKET in request.META
        if unsafe and not allowed and _is_foreign(request, origin):
            message = (
                "a page of another site may not do this; allow its origin with RETIRE_CLUSTER_ALLOWED_ORIGINS"
            )
            details = {"field": "Origin", "reason": message}
            return fallback.refusal(request, Failure(403, ErrorCode.FORBIDDEN, message, details))
        response: HttpResponse = self._get_response(request)
        return _with_cors(response, origin) if allowed else response


def _is_foreign(request: HttpRequest, origin: str) -> bool:
    """Whether a browser says that the request comes from another site."""
    if origin:
        return _site(origin) != _without_default_port(request.get_host())
    return request.headers.get("Sec-Fetch-Site", "") == "cross-site"


def _site(origin: str) -> str:
    """Host and port of an origin; empty for one that is none."""
    try:
        return _without_default_port(urlsplit(origin).netloc)
    except ValueError:  # such as http://[
        return ""


def _without_default_port(netloc: str) -> str:
    return netloc.lower().removesuffix(":80").removesuffix(":443")


EXPOSED = ", ".join(
    [
        "ETag",
        "Idempotent-Replayed",
        "Location",
        "X-Request-ID",
        "Retry-After",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
    ]
)


def _with_cors(response: HttpResponse, origin: str, *, preflight: bool = False) -> HttpResponse:
    response["Access-Control-Allow-Origin"] = origin
    response["Access-Control-Expose-Headers"] = EXPOSED
    response["Vary"] = ", ".join(filter(None, (response.get("Vary", ""), "Origin")))
    if preflight:
        response["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, DELETE"
        response["Access-Control-Allow-Headers"] = (
            "Authorization, Content-Type, Idempotency-Key, If-Match, X-API-Key, X-Request-ID"
        )
        response["Access-Control-Max-Age"] = "600"  # seconds
    return response


STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# unfold: style attributes and a style element with its colours, fonts that are files, and Alpine, which makes
# functions of the attributes of a page (unsafe-eval). No script stands in a page: a hostile text that got into one
# as markup would be no script, but its x- attributes would be code. So these pages escape all they show.
ADMIN_POLICY = (
    STRICT_POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-eval'").replace(
        "style-src 'self'", "style-src 'self' 'unsafe-inline'"
    )
    + "; font-src 'self'"
)
# REST framework's pages carry style attributes; their fonts are files.
BROWSABLE_POLICY = (
    STRICT_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'") + "; font-src 'self'"
)
# Swagger UI and Redoc start from a script in the page, draw with blobs, and Redoc searches in a worker.
DOCS_POLICY = (
    BROWSABLE_POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'").replace(
        "img-src 'self' data:", "img-src 'self' data: blob:"
    )
    + "; worker-src 'self' blob:"
)
DOCS = ("/api/docs", "/api/redoc")


class SecurityHeadersMiddleware:
    """What browsers may do with an answer: strict by default, looser by name where other people's pages need it."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", _policy(request.path, response))
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if request.path.startswith(("/api/", "/health")):
            response.headers.setdefault("Cache-Control", "no-store")
        if request.is_secure():  # also where only the proxy in front speaks TLS
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response


def _policy(path: str, response: HttpResponse) -> str:
    if path.startswith("/admin/"):
        return ADMIN_POLICY
    if path.rstrip("/") in DOCS:
        return DOCS_POLICY
    is_page = response.get("Content-Type", "").startswith("text/html")
    return BROWSABLE_POLICY if is_page and path.startswith("/api/") else STRICT_POLICY
