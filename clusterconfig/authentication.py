"""Who calls: an API key in `X-API-Key` or `Authorization: Bearer`, or an operator's session."""

from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clusterconfig import keys


class ApiKeyAuthentication(BaseAuthentication):
    """A wrong key is refused even where none is needed: its owner wants to know."""

    def authenticate(self, request: Request) -> tuple[keys.KeyHolder, str] | None:
        offered = offered_keys(request._request)
        if not offered:
            return None
        try:
            holders = [keys.verify(key, now=timezone.now()) for key in offered]
        except keys.KeyRefusedError as refusal:
            raise AuthenticationFailed(str(refusal)) from None
        return holders[0], "key"

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="retire-cluster"'


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
