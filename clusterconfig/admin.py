"""Admin pages: configuration, keys and tokens, to look at."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from clusterconfig.models import (
    ApiKey,
    AuditEntry,
    ClusterIdentity,
    ConfigChange,
    ConfigSection,
    JoinToken,
)

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


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("revoked_at",)
    search_fields = ("name", "prefix")
    exclude = ("digest",)


@admin.register(JoinToken)
class JoinTokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "id", "role", "uses", "max_uses", "created_at", "expires_at", "revoked_at")
    search_fields = ("name", "id")
    exclude = ("digest",)


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


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "address", "action", "target", "details", "request_id")
    list_filter = ("action",)
    search_fields = ("=target", "=actor", "=request_id")
    ordering = ("-at", "-id")
