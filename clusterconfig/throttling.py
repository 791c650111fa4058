"""Rate limits of the API: per key, else per signed-in user, else per address."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from clusterconfig import authentication
from clusterconfig.keys import KeyHolder, KeyRefusedError
from retire_cluster import fallback
from retire_cluster.api import client, rates
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.credentials import digest

API_PREFIX = "/api/v1"
SUBMIT_FORM = "/submit"  # what it does is what POST /api/v1/tasks does
MAX_PROVEN = 10_000  # keys remembered as right, with the address they came from
_making = threading.Lock()


class RateLimitMiddleware:
    """Counts each call under /api/v1 once, refuses what is too much, and tells every client what is left.

    The dashboard's form that submits counts as the call it stands for.

    A member of staff at the operators' pages is not counted. Wrong keys count against their address.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        verdict = _judge(request)
        if verdict is None:
            response: HttpResponse = self._get_response(request)
            return response
        if verdict.refused is not None:
            return _with_headers(fallback.refusal(request, _too_many(verdict.refused)), verdict)
        return _with_headers(self._get_response(request), verdict)


def forget() -> None:
    """Start all counts of this process anew."""
    _store.cache_clear()
    _proven.clear()


def store() -> rates.Store:
    """Where the counts are: in Redis where there is one, else in this process."""
    with _making:  # first calls that come at once must not get a store each
        return _store(settings.REDIS_URL)


@lru_cache(maxsize=1)
def _store(redis_url: str) -> rates.Store:
    return rates.RedisStore(redis_url) if redis_url else rates.MemoryStore()


def _judge(request: HttpRequest) -> rates.Verdict | None:
    """The call counted; None where there is no limit."""
    default = rates.parse(settings.RATE_LIMITS)
    if not default or not _is_counted(request):
        return None
    offered = authentication.offered_keys(request)
    if offered:
        return _judge_key(request, offered, default)
    user = _session_user(request)
    if user is not None and user.is_staff:
        return None
    return store().hit(f"user:{user.pk}" if user else _by_address(request), default)


def _is_counted(request: HttpRequest) -> bool:
    path = request.path_info
    if path == API_PREFIX or path.startswith(API_PREFIX + "/"):
        return True
    return request.method == "POST" and path.rstrip("/") == SUBMIT_FORM


def _judge_key(
    request: HttpRequest, offered: Sequence[str], default: Sequence[rates.Window]
) -> rates.Verdict | None:
    """The call of somebody with a key.

    A key not yet known to be right costs its address one try before it is looked at, so that trying keys is as
    limited as anything else; clients whose key was right before do not suffer from a neighbour's wrong one.
    """
    address = client.address(request)
    proof = digest("\n".join([address, *offered]))
    if proof not in _proven:
        tried = store().hit(f"keys:{address}", default)
        if tried.refused:
            return tried
    holder = _holder(request)
    if holder is None:
        return store().hit(_by_address(request), default)
    _proven.add(proof)
    windows = rates.parse(holder.rate_limits) if holder.rate_limits else default
    return store().hit(f"key:{holder.key_id}", windows) if windows else None


def _holder(request: HttpRequest) -> KeyHolder | None:
    """Whose key it is; None for a wrong one, or while the database is away: the view then says which."""
    try:
        return authentication.identify(request)
    except (KeyRefusedError, DatabaseError):
        return None


def _session_user(request: HttpRequest) -> Any:
    """Who is signed in; nobody while the database is away."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return None
    try:
        return request.user if request.user.is_authenticated else None
    except DatabaseError:
        return None


def _by_address(request: HttpRequest) -> str:
    return f"address:{client.address(request)}"


def _too_many(full: rates.Count) -> Failure:
    wait = max(1, math.ceil(full.frees_in_s))
    message = f"the limit of {full.window.text} is reached; try again in {wait} s"
    details = {"limit": full.window.text, "retry_after_seconds": wait}
    return Failure(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, details, {"Retry-After": str(wait)})


def _with_headers(response: HttpResponse, verdict: rates.Verdict) -> HttpResponse:
    count = verdict.shown
    response["X-RateLimit-Limit"] = str(count.window.amount)
    response["X-RateLimit-Remaining"] = str(count.remaining)
    response["X-RateLimit-Reset"] = str(math.ceil(time.time() + count.frees_in_s))
    return response


class _Proven:
    """The keys that were right lately, as hashes; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, proof: str) -> bool:
        return proof in self._hashes

    def add(self, proof: str) -> None:
        with self._lock:
            self._hashes[proof] = None
            self._hashes.move_to_end(proof)
            if len(self._hashes) > MAX_PROVEN:
                self._hashes.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._hashes.clear()


_proven = _Proven()
