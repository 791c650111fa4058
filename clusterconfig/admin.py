"""Admin pages: keys and tokens to make, rotate and revoke, everything else to look at."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from clusterconfig import joining, keys, tokens
from clusterconfig.audit import Actor
from clusterconfig.backoffice import selection
from clusterconfig.backoffice.base import LargeTableAdmin, ReadOnlyAdmin, SecretAdmin
from clusterconfig.backoffice.columns import brief, column, link
from clusterconfig.backoffice.filters import chosen, exact
from clusterconfig.forms import KeyForm, TokenForm
from clusterconfig.models import (
    ApiKey,
    AuditEntry,
    ClusterIdentity,
    ConfigChange,
    ConfigSection,
    JoinToken,
    SignInLink,
    StreamTicket,
)
from clusterconfig.registry import SECTIONS
from clusterconfig.serializers import NewKey, NewToken
from retire_cluster.events.models import EventBatch

VALID, EXPIRED, REVOKED = "valid", "expired", "revoked"
STATES = (VALID, EXPIRED, REVOKED)
COLOURS = {VALID: "success", EXPIRED: "warning", REVOKED: "danger"}


def _in_state(state: str) -> Q:
    """What a key or token is asked for to be in the state."""
    expired = Q(expires_at__lte=timezone.now())
    if state == REVOKED:
        return Q(revoked_at__isnull=False)
    return Q(revoked_at=None) & (expired if state == EXPIRED else ~expired | Q(expires_at=None))


@column("state", label=COLOURS)
def state(row: Any) -> str:
    """Whether a key or token still opens anything."""
    if row.revoked_at is not None:
        return REVOKED
    return EXPIRED if row.expires_at is not None and row.expires_at <= timezone.now() else VALID


@admin.register(ApiKey)
class ApiKeyAdmin(SecretAdmin):
    plural = "API keys"
    form = KeyForm
    list_display = (
        "name",
        state,
        "prefix",
        "scopes",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = (chosen("state", "state", STATES, _in_state),)
    search_fields = ("name", "prefix")
    ordering = ("-created_at", "-id")
    actions = ("rotate", "revoke")

    def make(self, new: NewKey, actor: Actor) -> tuple[str, Model]:
        return keys.create(
            new.name,
            new.scopes,
            now=timezone.now(),
            expires_at=new.expires_at,
            task_types=new.task_types,
            rate_limits=new.rate_limits,
            actor=actor,
        )

    def end(self, key: UUID, actor: Actor) -> None:
        now = timezone.now()
        if keys.revoke(key, now=now, actor=actor).revoked_at != now:
            raise selection.Refused("it was revoked before")

    @admin.action(description="Rotate: a new key in its place", permissions=["operate"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse:
        question = "Whoever uses these keys is locked out until they have the new ones."
        asked = selection.confirmation(self, request, queryset, question)
        if asked:
            return asked
        outcome = selection.apply(request, queryset, _rotated, (keys.KeyRefusedError,))
        selection.say(request, outcome, "rotated")
        # On the page itself: what is said after a redirect is kept in a cookie or the database.
        return selection.answer(self, request, "admin/new_keys.html", "New keys", {"new_keys": outcome.done})


def _rotated(key: UUID, actor: Actor) -> dict[str, str]:
    secret, row = keys.rotate(key, now=timezone.now(), actor=actor)
    return {"name": row.name, "secret": secret}


@admin.register(JoinToken)
class JoinTokenAdmin(SecretAdmin):
    form = TokenForm
    list_display = ("name", state, "id", "role", "used", "created_at", "expires_at", "revoked_at")
    list_filter = (chosen("state", "state", STATES, _in_state),)
    search_fields = ("name", "id")
    ordering = ("-created_at", "-id")

    @column("uses")
    def used(self, token: JoinToken) -> str:
        return f"{token.uses} of {token.max_uses}" if token.max_uses is not None else str(token.uses)

    def make(self, new: NewToken, actor: Actor) -> tuple[str, Model]:
        text, row = tokens.create(
            new.name,
            now=timezone.now(),
            max_uses=new.max_uses,
            expires_at=new.expires_at,
            preset=new.preset,
            actor=actor,
        )
        return joining.command(joining.as_device_needs_it(text)), row

    def end(self, key: str, actor: Actor) -> None:
        now = timezone.now()
        if tokens.revoke(key, now=now, actor=actor).revoked_at != now:
            raise selection.Refused("it was revoked before")


@admin.register(ConfigSection)
class ConfigSectionAdmin(ReadOnlyAdmin):
    list_display = ("name", brief("values"), "version", "changed_at")
    search_fields = ("name",)
    ordering = ("name",)


@admin.register(ClusterIdentity)
class ClusterIdentityAdmin(ReadOnlyAdmin):
    plural = "cluster identity"
    list_display = ("incarnation", "created_at")


@admin.register(ConfigChange)
class ConfigChangeAdmin(ReadOnlyAdmin):
    list_display = ("section", "version", "changed_at", "changed_by", brief("old"), brief("new"))
    list_filter = (chosen("section", "section", tuple(SECTIONS), lambda name: Q(section=name)), "changed_at")
    search_fields = ("changed_by",)
    ordering = ("-id",)


@admin.register(EventBatch)
class EventBatchAdmin(LargeTableAdmin):
    plural = "event batches"
    list_display = ("seq_from", "count", brief("events"), "created_at")
    search_fields = ("seq_from",)
    search_help_text = "Number of the first event"
    ordering = ("-id",)
    long_texts = ("events",)


@admin.register(StreamTicket)
class StreamTicketAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "origin", "expires_at")
    search_fields = ("key_id", "user_id")
    ordering = ("-id",)
    exclude = ("digest",)


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "expires_at")
    exclude = ("digest",)


@admin.register(AuditEntry)
class AuditEntryAdmin(LargeTableAdmin):
    plural = "audit entries"
    list_display = ("at", "actor", "address", "action", "about", brief("details"), "request_id")
    list_filter = (
        exact("action", "action"),
        exact("actor", "actor"),
        exact("request_id", "request id"),
        "at",
    )
    search_fields = ("target",)
    search_help_text = "Id of a task, device, key or token"
    ordering = ("-at", "-id")

    @column("target")
    def about(self, entry: AuditEntry) -> str:
        """The target, which leads to its page where the action says what it is."""
        page = PAGES.get(entry.action.partition(".")[0])
        return link(page, entry.target) if page and "," not in entry.target else entry.target


# By the first word of an action.
PAGES = {
    "task": "tasks_task",
    "device": "devices_device",
    "key": "clusterconfig_apikey",
    "token": "clusterconfig_jointoken",
}
