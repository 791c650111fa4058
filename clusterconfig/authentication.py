"""Who calls: an API key in `X-API-Key` or `Authorization: Bearer`, or an operator's session."""

from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clusterconfig import keys, tickets

VERDICT = "retire_cluster.key"
"""Key in a request's META; not a header's name, so no client can set it."""


BEARER = "retire_cluster.bearer"
"""Key in META: who a ticket stood for when the connection was opened; set by `/ws` when it asks again."""


class TicketAuthentication(BaseAuthentication):
    """A ticket in the query of `/ws`. It is used up by being looked at."""

    def authenticate(self, request: Request) -> tuple[Any, str] | None:
        meta = request._request.META
        if BEARER not in meta:
            ticket = request._request.GET.get("ticket")
            if ticket is None:
                return None
            meta[BEARER] = self._redeemed(ticket, request._request.headers.get("Origin", ""))
        return self._principal(meta[BEARER]), "ticket"

    @staticmethod
    def _redeemed(ticket: str, origin: str) -> tickets.Bearer:
        try:
            return tickets.redeem(ticket, origin=origin, now=timezone.now())
        except tickets.TicketRefusedError as refusal:
            raise AuthenticationFailed(str(refusal)) from None

    @staticmethod
    def _principal(bearer: tickets.Bearer) -> Any:
        """The key's holder or the user, as they are now."""
        try:
            if bearer.key_id:
                return keys.holder_of(bearer.key_id, now=timezone.now())
        except keys.KeyRefusedError as refusal:
            raise AuthenticationFailed(str(refusal)) from None
        user = get_user_model().objects.filter(pk=bearer.user_id, is_active=True).first()
        if user is None:
            raise AuthenticationFailed("this account is not active any more")
        return user

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="retire-cluster"'


class ApiKeyAuthentication(BaseAuthentication):
    """A wrong key is refused even where none is needed: its owner wants to know."""

    def authenticate(self, request: Request) -> tuple[keys.KeyHolder, str] | None:
        try:
            holder = identify(request._request)
        except keys.KeyRefusedError as refusal:
            raise AuthenticationFailed(str(refusal)) from None
        return (holder, "key") if holder else None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="retire-cluster"'


def identify(request: HttpRequest) -> keys.KeyHolder | None:
    """Whose key the request presents; None without one. Raises KeyRefusedError. Looked up once per request."""
    if VERDICT not in request.META:
        request.META[VERDICT] = _verdict(offered_keys(request))
    verdict: keys.KeyHolder | keys.KeyRefusedError | None = request.META[VERDICT]
    if isinstance(verdict, keys.KeyRefusedError):
        raise verdict
    return verdict


def _verdict(offered: list[str]) -> keys.KeyHolder | keys.KeyRefusedError | None:
    """Of several keys all must be right, and the first one counts."""
    try:
        holders = [keys.verify(key, now=timezone.now()) for key in offered]
    except keys.KeyRefusedError as refusal:
        return refusal
    return holders[0] if holders else None


def offered_keys(request: HttpRequest) -> list[str]:
    """Every key the request presents; an empty one counts, as a key that is wrong."""
    found = []
    if "X-API-Key" in request.headers:
        found.append(_as_text(request.headers["X-API-Key"]))
    scheme, _, rest = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        found.append(_as_text(rest))
    return found


def _as_text(value: str) -> str:
    """Header values arrive as Latin-1; a key that was typed beyond ASCII was sent as UTF-8."""
    try:
        return value.strip().encode("latin-1").decode()
    except UnicodeError:
        return value.strip()
