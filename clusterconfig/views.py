"""API keys, join tokens and the audit trail, for administrators."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from clusterconfig import keys, serializers, tickets, tokens
from clusterconfig.filters import AuditFilter
from clusterconfig.keys import KeyHolder, Scope
from clusterconfig.models import ApiKey, AuditEntry, JoinToken, StreamTicket
from clusterconfig.permissions import actor, needs
from retire_cluster.api.errors import ApiError, ErrorCode, Failure, not_found
from retire_cluster.api.parameters import flag
from retire_cluster.api.validation import ObjectReader


class KeyViewSet(GenericViewSet[ApiKey]):
    """API keys, newest first. The text of a key is in the answer to the POST that makes it, and nowhere else."""

    lookup_value_regex = "[^/]+"
    permission_classes = (needs(Scope.ADMIN),)
    form_example: ClassVar[Any] = {
        "name": "my script",
        "scopes": ["read", "submit"],
        "expires_in_seconds": 86400,
    }

    def get_queryset(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.order_by("-created_at", "-id")

    def list(self, request: Request) -> Response:
        now = timezone.now()
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response([serializers.key_row(row, now=now) for row in page or []])

    def create(self, request: Request) -> Response:
        now = timezone.now()
        new = serializers.parse_key(request.data, now=now)
        key, row = keys.create(
            new.name,
            new.scopes,
            now=now,
            expires_at=new.expires_at,
            task_types=new.task_types,
            rate_limits=new.rate_limits,
            actor=actor(request),
        )
        location = {"Location": f"/api/v1/keys/{row.pk}"}
        return Response({"key": key, **serializers.key_row(row, now=now)}, status=201, headers=location)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(serializers.key_row(_key(pk), now=timezone.now()))

    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke. One's own key only with `?own=true`: by mistake it would lock its holder out."""
        ObjectReader(request.data).finish()
        now = timezone.now()
        own_too = flag(request, "own")
        try:
            row = keys.revoke(_key(pk).pk, now=now, actor=actor(request), own_too=own_too)
        except keys.OwnKeyError:
            raise _own_key() from None
        return Response(serializers.key_row(row, now=now))


class JoinTokenViewSet(GenericViewSet[JoinToken]):
    """Join tokens, newest first. The text is in the answer to the POST that makes one, with the command to run."""

    lookup_value_regex = "[^/]+"
    permission_classes = (needs(Scope.ADMIN),)
    form_example: ClassVar[Any] = {"name": "old phones", "tags": ["phone"], "max_uses": 3}

    def get_queryset(self) -> QuerySet[JoinToken]:
        return JoinToken.objects.order_by("-created_at", "-id")

    def list(self, request: Request) -> Response:
        now = timezone.now()
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response([serializers.token_row(row, now=now) for row in page or []])

    def create(self, request: Request) -> Response:
        now = timezone.now()
        new = serializers.parse_token(request.data, now=now)
        text, row = tokens.create(
            new.name,
            now=now,
            max_uses=new.max_uses,
            expires_at=new.expires_at,
            preset=new.preset,
            actor=actor(request),
        )
        location = {"Location": f"/api/v1/join-tokens/{row.pk}"}
        return Response(serializers.new_token(text, row, now=now), status=201, headers=location)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(serializers.token_row(_token(pk), now=timezone.now()))

    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke: devices that joined with it stay."""
        ObjectReader(request.data).finish()
        now = timezone.now()
        row = tokens.revoke(_token(pk).pk, now=now, actor=actor(request))
        return Response(serializers.token_row(row, now=now))


class TicketViewSet(GenericViewSet[StreamTicket]):
    """Tickets for `/ws`, where browsers cannot send a key: `new WebSocket("…/ws?ticket=…")` within 30 seconds."""

    permission_classes = (needs(Scope.READ),)

    def create(self, request: Request) -> Response:
        ObjectReader(request.data).finish()
        now = timezone.now()
        user: Any = request.user
        bearer = tickets.Bearer(key_id=user.key_id) if isinstance(user, KeyHolder) else None
        ticket, expires_at = tickets.issue(
            bearer or tickets.Bearer(user_id=str(user.pk)),
            origin=request.headers.get("Origin", ""),
            now=now,
        )
        return Response({"ticket": ticket, "expires_at": expires_at}, status=201)


class AuditViewSet(GenericViewSet[AuditEntry]):
    """Who changed what, from where, newest first.

    Filters: action, actor, target, since, until. Pages: `page` and `page_size`, or `cursor` (empty for the first
    page, then `next_cursor`).
    """

    filterset_class = AuditFilter
    cursor_field = "at"
    permission_classes = (needs(Scope.ADMIN),)

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.order_by("-at", "-id")

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([serializers.audit_row(row) for row in page or []])


def _key(text: str) -> ApiKey:
    row = ApiKey.objects.filter(pk=text).first() if serializers.is_uuid(text) else None
    if row is None:
        raise _missing("API key", text)
    return row


def _token(text: str) -> JoinToken:
    row = JoinToken.objects.filter(pk=text).first() if tokens.TOKEN_ID.fullmatch(text) else None
    if row is None:
        raise _missing("join token", text)
    return row


def _missing(kind: str, text: str) -> ApiError:
    return not_found(ErrorCode.NOT_FOUND, f"there is no {kind} {text[:64]!r}", id=text[:64])


def _own_key() -> ApiError:
    message = "this is the key you are using: revoke it with another one, or add ?own=true to mean it"
    details: dict[str, Any] = {"reason": "own_key"}
    return ApiError(Failure(409, ErrorCode.CONFLICT, message, details))
