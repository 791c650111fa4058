"""The devices: as cards or as a table, filtered as in the API."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse

from devices.filters import DeviceFilter
from devices.models import Device
from retire_cluster import db
from retire_cluster.dashboard import filtering, fleet
from retire_cluster.dashboard.access import page
from retire_cluster.dashboard.shell import show
from retire_cluster.protocol.states import Platform, Role

ON_A_PAGE = 48
VIEWS = ("cards", "table")


@page
def devices(request: HttpRequest) -> HttpResponse:
    """Those the filters in the address leave, by name."""
    members = Device.objects.members().for_list()
    found, problems = filtering.apply(DeviceFilter, request, members.order_by("id"))
    search = request.GET.get("q", "").strip()[:64]
    if search:
        found = found.filter(id__icontains=search)
    paged = Paginator(found, ON_A_PAGE).get_page(request.GET.get("page"))
    view = request.GET.get("view", "cards")
    cards = fleet.cards(list(paged.object_list))
    return show(
        request,
        "dashboard/devices.html",
        parts=("devices",),
        topics="device,task",
        status=400 if problems else 200,
        problems=problems,
        cards=cards if view == "table" else fleet.with_beats(cards, db.now()),
        paged=paged,
        view=view if view in VIEWS else "cards",
        views=VIEWS,
        filters=_filters(request),
        search=search,
        tags=request.GET.get("tags", ""),
    )


def _filters(request: HttpRequest) -> list[dict[str, Any]]:
    choices = {
        "status": ("online", "offline"),
        "role": [role.value for role in Role],
        "platform": [platform.value for platform in Platform],
    }
    return [
        {"name": name, "choices": words, "chosen": request.GET.get(name, "")}
        for name, words in choices.items()
    ]
