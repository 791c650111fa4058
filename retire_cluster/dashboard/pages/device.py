"""One device: how it is, what it can do, what it did, and what an operator can do with it."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusterconfig import joining, permissions
from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry
from devices import operations, pings, presence
from devices.models import Device
from retire_cluster import __version__, db
from retire_cluster.dashboard import access, filtering, fleet, pictures, words
from retire_cluster.dashboard.access import Refusal, action, page
from retire_cluster.dashboard.pages.joining import reached_as
from retire_cluster.dashboard.shell import show
from tasks import history
from tasks.models import Attempt

HOUR = timedelta(hours=1)
ATTEMPTS = 30
RECORDS = 10
CHARTS = (
    ("Processor", "cpu_percent", "%", 100.0),
    ("Memory", "memory_percent", "%", 100.0),
    ("Battery", "battery_percent", "%", 100.0),
    ("Temperature", "temperature_c", "°C", 0.0),
)


@page
def device(request: HttpRequest, device_id: str) -> HttpResponse:
    """Everything known of it."""
    row = _find(device_id)
    now = db.now()
    [card] = fleet.cards([row])
    view = presence.latest([row.pk], with_history=True).get(row.pk)
    return show(
        request,
        "dashboard/device.html",
        parts=("actions", "about", "version", "charts", "attempts"),
        topics="device,task",
        card=card,
        beats=fleet.beats_of(row, view, now),
        heartbeats=view.heartbeats if view else 0,
        stream=pictures.stream(history.bars(now - HOUR, [row.pk]), since=now - HOUR, until=now).get(
            row.pk, []
        ),
        charts=_charts(view.history if view else (), now),
        capabilities=capabilities(row),
        server_version=__version__,
        update_command=_update_command(request, row),
        attempts=Attempt.objects.filter(device=row).select_related("task").order_by("-offered_at")[:ATTEMPTS],
        records=_records(request, row.pk),
        drain_hours=(0, 1, 8, 24),
    )


def capabilities(row: Device) -> list[tuple[str, Any]]:
    """What it can do, None where it could not tell."""
    reported = row.capabilities
    return [
        ("Platform", row.platform),
        ("Role", row.role),
        ("Processors", row.cpu_count),
        ("Memory", None if row.memory_mb is None else f"{row.memory_mb / 1024:.1f} GB"),
        (
            "For tasks",
            None
            if row.allocatable_memory_mb is None
            else f"{row.allocatable_memory_mb / 1024:.1f} GB memory",
        ),
        ("Storage", None if row.storage_mb is None else f"{row.storage_mb / 1024:.1f} GB"),
        ("GPU", row.has_gpu),
        ("Internet", row.has_internet),
        ("Machine", reported.get("machine") or reported.get("architecture")),
        ("Python", reported.get("python_version")),
        ("Task types", words.listed(map(str, row.task_types)) or None),
        ("Agent", row.agent_version or None),
        ("Address", row.ip_address or None),
        ("Joined", row.registered_at),
    ]


def _update_command(request: HttpRequest, row: Device) -> str:
    """The line that gives it this server's agent; empty where it has that."""
    if row.agent_version == __version__:
        return ""
    return joining.update_command(reached_as=reached_as(request))


def _charts(samples: Any, now: datetime) -> list[dict[str, Any]]:
    """Of what the device measures; what it never told has no chart."""
    found = []
    for title, name, unit, top in CHARTS:
        values = [
            (datetime.fromisoformat(sample["timestamp"]), fleet.number(sample.get(name)))
            for sample in samples
        ]
        chart = pictures.curve(values, since=now - HOUR, until=now, kind=name, top=top)
        if chart.lines:
            found.append({"title": title, "unit": unit, "chart": chart, "last": chart.lines[0].last})
    return found


def _records(request: HttpRequest, device_id: str) -> list[AuditEntry]:
    """Who did what with it; for administrators, as in the API."""
    if not access.may(request, Scope.ADMIN):
        return []
    return list(AuditEntry.objects.filter(target=device_id).order_by("-id")[:RECORDS])


# --- buttons --------------------------------------------------------------------------------------------------


@action(Scope.OPERATE)
def cordon(request: HttpRequest, device_id: str) -> HttpResponse:
    """Place nothing new on it."""
    _do(
        device_id,
        lambda: operations.cordon(device_id, reason=_reason(request), actor=permissions.staff_actor(request)),
    )
    messages.success(request, f"{device_id} takes no new task; what runs there goes on.")
    return access.back(request)


@action(Scope.OPERATE)
def uncordon(request: HttpRequest, device_id: str) -> HttpResponse:
    """Back in service."""
    _do(device_id, lambda: operations.uncordon(device_id, reason="", actor=permissions.staff_actor(request)))
    messages.success(request, f"{device_id} is back in service.")
    return access.back(request)


@action(Scope.OPERATE)
def drain(request: HttpRequest, device_id: str) -> HttpResponse:
    """Have it run empty; with hours, what still runs then is requeued."""
    hours = filtering.whole(request.POST.get("hours", "0"), otherwise=-1)
    if not 0 <= hours * 3600 <= operations.MAX_DRAIN_S:
        raise Refusal(f"hours: must be a whole number from 0 to {operations.MAX_DRAIN_S // 3600}")
    deadline_s = hours * 3600 or None
    by = permissions.staff_actor(request)
    _do(
        device_id,
        lambda: operations.drain(device_id, reason=_reason(request), deadline_s=deadline_s, actor=by),
    )
    messages.success(request, f"{device_id} runs empty and takes no new task.")
    return access.back(request)


@action(Scope.OPERATE)
def remove(request: HttpRequest, device_id: str) -> HttpResponse:
    """Out of the cluster for good, once its name was typed."""
    if request.POST.get("confirm") != device_id:
        raise Refusal(f"To remove {device_id}, type its name into the field beside the button.")
    _do(device_id, lambda: operations.remove(device_id, actor=permissions.staff_actor(request)))
    messages.success(request, f"{device_id} was removed; what ran there goes to others.")
    return redirect("dashboard:devices")


@action(Scope.OPERATE)
def ping(request: HttpRequest, device_id: str) -> HttpResponse:
    """A round trip, waited for at most five seconds."""
    row = _find(device_id)
    if not row.online:
        raise Refusal(f"{device_id} is offline: {row.status_reason or 'no reason is known'}")
    began, ping_id = time.monotonic(), pings.new_id()
    pings.request(ping_id, row.pk, now=db.now())
    outcome = pings.outcome(ping_id, patience_s=pings.ANSWER_WITHIN_S, now=db.now())
    if outcome.response_time_ms is None:
        raise Refusal(f"{device_id}: {outcome.failure} (asked {words.span(time.monotonic() - began)} ago)")
    messages.success(request, f"{device_id} answered within {outcome.response_time_ms:.1f} ms.")
    return access.back(request)


def _do(device_id: str, act: Callable[[], object]) -> None:
    try:
        act()
    except Device.DoesNotExist:
        raise Refusal(f"There is no device {device_id} any more.") from None


def _reason(request: HttpRequest) -> str:
    reason = request.POST.get("reason", "").strip()
    if len(reason) > operations.MAX_REASON:
        raise Refusal(f"reason: may have {operations.MAX_REASON} characters")
    return reason


def _find(device_id: str) -> Device:
    row = Device.objects.members().filter(pk=device_id).first()
    if row is None:
        raise Http404(f"there is no device {device_id}")
    return row
