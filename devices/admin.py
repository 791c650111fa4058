"""Admin pages: devices to take out of service, their presence, and gateways, to look at."""

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin
from django.contrib.admin import helpers
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from clusterconfig.backoffice import selection
from clusterconfig.backoffice.base import LargeTableAdmin, ReadOnlyAdmin
from clusterconfig.backoffice.columns import brief, column, link, listed, moment
from clusterconfig.backoffice.filters import chosen, exact
from devices import operations
from devices.models import Device, Gateway, MetricsSample, Ping, Presence

if TYPE_CHECKING:
    ActionForm = helpers.ActionForm
else:
    from unfold.forms import ActionForm  # has no types

# Each with what it asks of a device, the first that fits is shown.
STATES = {
    "removed": Q(removed_at__isnull=False),
    "offline": Q(removed_at=None, online=False),
    "draining": Q(removed_at=None, online=True, draining=True),
    "cordoned": Q(removed_at=None, online=True, draining=False, cordoned=True),
    "paused": Q(removed_at=None, online=True, cordoned=False) & ~Q(paused_reason=""),
    "online": Q(removed_at=None, online=True, cordoned=False, paused_reason=""),
}
COLOURS = {
    "online": "success",
    "offline": "danger",
    "draining": "warning",
    "cordoned": "warning",
    "paused": "info",
}


class ReasonForm(ActionForm):
    """Which action, and why, where the action keeps a reason."""

    reason = forms.CharField(
        label="",
        required=False,
        max_length=operations.MAX_REASON,
        widget=forms.TextInput(
            {
                "class": "rc-reason",
                "placeholder": "Reason",
                "aria-label": "Reason",
                "x-show": "['cordon', 'drain', 'uncordon'].includes(action)",
            }
        ),
    )


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "state",
        "why",
        "last_seen",
        "role",
        "platform",
        "slots",
        "cpu_count",
        "memory_mb",
        "ip_address",
        "registered_at",
    )
    list_filter = (
        chosen("state", "state", tuple(STATES), STATES.__getitem__),
        "cordoned",
        "role",
        "platform",
    )
    search_fields = ("id", "ip_address")
    search_help_text = "Name or address"
    ordering = ("-registered_at", "id")
    not_in_lists = ("tags", "task_types", "capabilities")
    action_form = ReasonForm
    actions = ("cordon", "drain", "uncordon", "remove")
    fieldsets = (
        (None, {"fields": ("id", "state", "why", "last_seen", "tasks", "attempts")}),
        ("Work", {"fields": ("role", "tags", "task_types", "slots")}),
        (
            "Out of service",
            {
                "fields": (
                    "cordoned",
                    "cordon_reason",
                    "draining",
                    "drain_deadline",
                    "paused_reason",
                    "removed_at",
                )
            },
        ),
        (
            "Machine",
            {
                "fields": (
                    "platform",
                    "cpu_count",
                    "memory_mb",
                    "allocatable_memory_mb",
                    "storage_mb",
                    "has_gpu",
                    "has_internet",
                    "agent_version",
                    "capabilities",
                )
            },
        ),
        (
            "Connection",
            {
                "fields": (
                    "online",
                    "status_reason",
                    "ip_address",
                    "gateway",
                    "session",
                    "link_no",
                    "run_id",
                    "registered_at",
                    "connected_at",
                    "disconnected_at",
                    "join_token",
                    "secret_confirmed",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        devices: QuerySet[Device] = super().get_queryset(request)
        return devices.annotate(last_seen_at=F("presence__last_seen"))

    @column("state", label=COLOURS)
    def state(self, device: Device) -> str:
        if device.removed_at is not None:
            return "removed"
        if not device.online:
            return "offline"
        if device.cordoned:
            return "draining" if device.draining else "cordoned"
        return "paused" if device.paused_reason else "online"

    @column("why")
    def why(self, device: Device) -> str:
        """In its own words or an operator's why it is not in full service."""
        reasons = (device.status_reason, device.paused_reason, device.cordon_reason)
        return "; ".join(filter(None, reasons)) or "-"

    @column("last seen", ordering="last_seen_at")
    def last_seen(self, device: Device) -> str:
        return moment(getattr(device, "last_seen_at", None))

    @column("tasks")
    def tasks(self, device: Device) -> str:
        return listed("tasks_task", "what it ran last", device_id=device.pk)

    @column("attempts")
    def attempts(self, device: Device) -> str:
        return listed("tasks_attempt", "every try on it", device_id=device.pk)

    @admin.action(description="Cordon: place nothing new on them", permissions=["operate"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        reason = _reason(request)
        self._apply(
            request, queryset, "cordoned", lambda key, who: operations.cordon(key, reason=reason, actor=who)
        )

    @admin.action(description="Drain: cordon, and let what runs end", permissions=["operate"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        reason = _reason(request)
        self._apply(
            request,
            queryset,
            "draining",
            lambda key, who: operations.drain(key, reason=reason, deadline_s=None, actor=who),
        )

    @admin.action(description="Uncordon: back in service", permissions=["operate"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        reason = _reason(request)
        self._apply(
            request,
            queryset,
            "back in service",
            lambda key, who: operations.uncordon(key, reason=reason, actor=who),
        )

    @admin.action(description="Remove for good", permissions=["operate"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        question = "Their secrets die, their work goes to others, and to come back they have to join anew."
        asked = selection.confirmation(self, request, queryset, question)
        if asked is None:
            self._apply(request, queryset, "removed", lambda key, who: operations.remove(key, actor=who))
        return asked

    def _apply(self, request: HttpRequest, rows: QuerySet[Device], done: str, act: selection.Act) -> None:
        selection.say(request, selection.apply(request, rows, act), done)


def _reason(request: HttpRequest) -> str:
    """As ReasonForm, which was valid, let it through."""
    return request.POST.get("reason", "").strip()


@admin.register(Presence)
class PresenceAdmin(ReadOnlyAdmin):
    plural = "presence"
    list_display = ("device_id", "last_seen", "heartbeats", brief("metrics"))
    search_fields = ("device__id",)
    ordering = ("-last_seen",)
    not_in_lists = ("history",)


@admin.register(MetricsSample)
class MetricsSampleAdmin(LargeTableAdmin):
    list_display = ("id", "of", "start", "heartbeats", brief("values"))
    list_filter = (exact("device_id", "device"), "start")
    search_fields = ("device_id",)
    search_help_text = "Name of a device"
    ordering = ("-start", "-id")

    @column("device")
    def of(self, sample: MetricsSample) -> str:
        return link("devices_device", sample.device_id)


@admin.register(Gateway)
class GatewayAdmin(ReadOnlyAdmin):
    list_display = ("id", "state", "host", "port", "tls", "started_at", "seen_at", "stopped_at")
    search_fields = ("host",)
    ordering = ("-started_at", "id")

    @column("state", label={"started": "success", "stopped": "danger"})
    def state(self, gateway: Gateway) -> str:
        return "started" if gateway.stopped_at is None else "stopped"


@admin.register(Ping)
class PingAdmin(LargeTableAdmin):
    list_display = ("id", "of", "result", "response_time_ms", "failure", "requested_at", "ended_at")
    list_filter = (exact("device_id", "device"),)
    search_fields = ("device_id",)
    search_help_text = "Name of a device"
    ordering = ("-requested_at", "-id")

    @column("device")
    def of(self, ping: Ping) -> str:
        return link("devices_device", ping.device_id)

    @column("result", label={"answered": "success", "no answer": "danger", "open": "info"})
    def result(self, ping: Ping) -> str:
        if ping.ended_at is None:
            return "open"
        return "answered" if ping.response_time_ms is not None else "no answer"
