"""Admin pages: devices, their presence, and gateways, to look at."""

from django.contrib import admin

from clusterconfig.admin import ReadOnlyAdmin
from devices.models import Device, Gateway, MetricsSample, Ping, Presence


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "online",
        "status_reason",
        "role",
        "platform",
        "slots",
        "cpu_count",
        "memory_mb",
        "paused_reason",
        "cordoned",
        "draining",
        "registered_at",
        "removed_at",
    )
    list_filter = ("online", "cordoned", "draining", "role", "platform")
    search_fields = ("id", "ip_address")
    ordering = ("-registered_at", "id")
    exclude = ("secret_digest",)


@admin.register(Presence)
class PresenceAdmin(ReadOnlyAdmin):
    list_display = ("device_id", "last_seen", "heartbeats")
    search_fields = ("device__id",)
    ordering = ("-last_seen",)


@admin.register(MetricsSample)
class MetricsSampleAdmin(ReadOnlyAdmin):
    list_display = ("device_id", "start", "heartbeats")
    search_fields = ("=device__id",)
    ordering = ("-start", "-id")


@admin.register(Gateway)
class GatewayAdmin(ReadOnlyAdmin):
    list_display = ("id", "host", "port", "tls", "started_at", "stopped_at")
    ordering = ("-started_at",)


@admin.register(Ping)
class PingAdmin(ReadOnlyAdmin):
    list_display = ("device_id", "requested_at", "ended_at", "response_time_ms", "failure")
    search_fields = ("=device__id",)
    ordering = ("-requested_at",)
