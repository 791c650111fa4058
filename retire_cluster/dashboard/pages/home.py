"""The first page: the cluster at a glance, and what needs somebody."""

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from clusterconfig import joining
from devices.models import Device
from retire_cluster import db
from retire_cluster.dashboard import attention, fleet, pictures
from retire_cluster.dashboard.access import page
from retire_cluster.dashboard.fleet import Card
from retire_cluster.dashboard.pages.joining import PLACEHOLDER, reached_as
from retire_cluster.dashboard.shell import show
from tasks import explain, history, statistics
from tasks.models import Task

CARDS = 12
ROWS = 12  # devices in the stream
NEWEST = 10
SPAN = timedelta(minutes=10)  # of the stream
HOUR = timedelta(hours=1)
PARTS = ("stats", "attention", "stream", "charts", "recent", "fleet")


@page
def overview(request: HttpRequest) -> HttpResponse:
    """The cluster at a glance."""
    now = db.now()
    devices = list(Device.objects.members().for_list().newest())
    cards = fleet.cards(devices)
    shown = _interesting(cards)[:CARDS]
    notes = attention.notes(cards, explain.misfits())
    return show(
        request,
        "dashboard/overview.html",
        parts=PARTS,
        stats=_stats(cards),
        notes=notes[: attention.SHOWN],
        more_notes=max(0, len(notes) - attention.SHOWN),
        note_count=len(notes),
        stream=_stream(cards, now),
        throughput=_throughput(now),
        queue=_queue(now),
        tasks=Task.objects.newest().for_list()[:NEWEST],
        cards=fleet.with_beats(shown, now),
        more_cards=max(0, len(cards) - CARDS),
        device_count=len(cards),
        member_devices=len(cards),
        join_command=joining.command(PLACEHOLDER, reached_as=reached_as(request)),
        api_root=f"{request.scheme}://{request.get_host()}",
    )


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Where the icon is, for pages that do not say."""
    return redirect(static("retire_cluster/icon.svg"))


def _interesting(cards: list[Card]) -> list[Card]:
    """What works first, then what could, what is away last; each by name."""
    order = {"online": 1, "paused": 2, "draining": 2, "cordoned": 2, "offline": 3}
    return sorted(cards, key=lambda card: (0 if card.reserved_slots else order[card.state], card.device.pk))


def _stats(cards: list[Card]) -> dict[str, Any]:
    online = [card for card in cards if card.device.online]
    serving = [card for card in online if card.state == "online"]
    by_status = statistics.queue_stats()["by_status"]
    performance = statistics.performance()
    waiting = by_status["pending"] + by_status["queued"]
    oldest = (
        Task.objects.filter(status="queued").order_by("created_at", "id").values_list("ready_at", flat=True)
    )
    first = oldest.first() if waiting else None
    return {
        "devices": len(cards),
        "online": len(online),
        "online_percent": 100 * len(online) / len(cards) if cards else 0,
        "running": by_status["assigned"] + by_status["running"],
        "slots": sum(card.device.slots for card in online),
        "busy_slots": sum(card.reserved_slots for card in online),
        "waiting": waiting,
        "oldest": first,
        "success_rate": performance["success_rate"],
        "ended_last_hour": performance["tasks_per_hour"],
        "free_slots": sum(max(0, card.device.slots - card.reserved_slots) for card in serving),
        "free_memory_mb": sum(
            max(0, (card.device.allocatable_memory_mb or 0) - card.reserved_memory_mb) for card in serving
        ),
    }


def _stream(cards: list[Card], now: datetime) -> list[tuple[Card, list[pictures.Piece]]]:
    """A row for each device that worked lately, then for others, as many as there is room for."""
    rows = pictures.stream(history.bars(now - SPAN), since=now - SPAN, until=now)
    ordered = sorted(_interesting(cards), key=lambda card: card.device.pk not in rows)
    return [(card, rows.get(card.device.pk, [])) for card in ordered[:ROWS]]


def _throughput(now: datetime) -> pictures.Chart:
    since = now - HOUR
    return pictures.throughput(history.ended_by_minute(since), since=since, until=now)


def _queue(now: datetime) -> pictures.Chart:
    since = now - HOUR
    return pictures.queue(history.depths(since, now), history.depth_now(now), since=since)
