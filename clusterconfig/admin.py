"""Admin pages: keys and tokens to make and revoke, everything else to look at."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from clusterconfig import joining, keys, permissions, tokens
from clusterconfig.audit import Actor
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
from clusterconfig.serializers import NewKey, NewToken
from retire_cluster.events.models import EventBatch

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin  # not subscriptable at run time


class ReadOnlyAdmin(ModelAdmin):
    """Rows to look at: the services are the only writers, and they check what a form would not."""

    show_full_result_count = False  # counting a million tasks for a page of a hundred

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class SecretAdmin(ReadOnlyAdmin):
    """Rows that stand for a secret: made here, where it is shown once, and revoked here; never changed."""

    actions = ("revoke",)
    exclude = ("digest",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return permissions.is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.is_staff(request)

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else self.form

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return (
            super().get_fieldsets(request, obj) if obj else [(None, {"fields": list(self.form.base_fields)})]
        )

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Make the row through the service, as every other way does, and show the secret."""
        secret, row = self.make(form.new, permissions.staff_actor(request))
        obj.__dict__.update(row.__dict__)
        note = "Shown only now, keep it safe"
        self.message_user(request, f"{note}: {secret}", messages.WARNING)

    def make(self, new: Any, actor: Actor) -> tuple[str, Model]:
        """What to show, and the new row."""
        raise NotImplementedError

    @admin.action(description="Revoke", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = list(queryset)
        for row in rows:
            self.end(row, permissions.staff_actor(request))
        self.message_user(request, f"{len(rows)} revoked")

    def end(self, row: Any, actor: Actor) -> None:
        """Revoke one row through the service."""
        raise NotImplementedError


@admin.register(ApiKey)
class ApiKeyAdmin(SecretAdmin):
    form = KeyForm
    list_display = ("name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("revoked_at",)
    search_fields = ("name", "prefix")

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

    def end(self, row: ApiKey, actor: Actor) -> None:
        keys.revoke(row.pk, now=timezone.now(), actor=actor)


@admin.register(JoinToken)
class JoinTokenAdmin(SecretAdmin):
    form = TokenForm
    list_display = ("name", "id", "role", "uses", "max_uses", "created_at", "expires_at", "revoked_at")
    search_fields = ("name", "id")

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

    def end(self, row: JoinToken, actor: Actor) -> None:
        tokens.revoke(row.pk, now=timezone.now(), actor=actor)


@admin.register(ConfigSection)
class ConfigSectionAdmin(ReadOnlyAdmin):
    list_display = ("name", "values", "version", "changed_at")


@admin.register(ClusterIdentity)
class ClusterIdentityAdmin(ReadOnlyAdmin):
    list_display = ("incarnation", "created_at")


@admin.register(ConfigChange)
class ConfigChangeAdmin(ReadOnlyAdmin):
    list_display = ("section", "version", "changed_at", "changed_by", "old", "new")
    list_filter = ("section",)
    ordering = ("-id",)


@admin.register(EventBatch)
class EventBatchAdmin(ReadOnlyAdmin):
    list_display = ("seq_from", "count", "created_at")
    ordering = ("-id",)


@admin.register(StreamTicket)
class StreamTicketAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "origin", "expires_at")
    exclude = ("digest",)


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "expires_at")
    exclude = ("digest",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "address", "action", "target", "details", "request_id")
    list_filter = ("action",)
    search_fields = ("=target", "=actor", "=request_id")
    ordering = ("-at", "-id")
