"""What stands around every page: where the stream of events was before it was drawn, the strip, the counts."""

import math
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusterconfig.keys import Scope
from devices.models import Device
from retire_cluster import db
from retire_cluster.api import remembered
from retire_cluster.dashboard import access, words
from retire_cluster.events import position
from retire_cluster.events.frames import Cursor
from retire_cluster.protocol.states import TaskStatus
from tasks import statistics

DRAW_AGAIN = "X-Draw-Again"
"""Header: milliseconds until the figures that were remembered can be had anew; 0: all are as they are now."""
STRIP = 3  # events at the bottom of a page
QUIET = ("task.output", "task.progress", "task.assigned")  # of no interest to somebody who passes by


def show(
    request: HttpRequest,
    template: str,
    *,
    parts: Sequence[str] = (),
    topics: str = "task,device,cluster,config",
    task_id: str = "",
    refresh: str = "",
    status: int = 200,
    **context: Any,
) -> HttpResponse:
    """A page. `parts` are the ids of what is drawn anew when an event of the topics, or about the task, comes."""
    by_status = statistics.queue_stats()["by_status"]
    cursor: Cursor = request.META[access.CURSOR]
    again_ms = math.ceil(1000 * remembered.stale_for()) if status == 200 else 0  # a refusal stays one
    around = {
        "again_ms": again_ms,
        "cursor": cursor,
        "now": db.now(),
        "parts": ",".join(f"#{part}" for part in ("strip", "nav-counts", *parts)),
        "topics": topics,
        "live_task": task_id,
        "refresh": refresh or request.get_full_path(),
        "strip": strip(cursor),
        "open_tasks": sum(by_status[item] for item in TaskStatus if not item.is_terminal),
        "member_devices": context.get("member_devices") or Device.objects.members().count(),
        "may_operate": access.may(request, Scope.OPERATE),
        "may_admin": access.may(request, Scope.ADMIN),
    }
    response = render(request, template, {**around, **context}, status=status)
    response.headers[DRAW_AGAIN] = str(again_ms)
    return response


def strip(until: Cursor) -> list[words.Tale]:
    """The latest events worth telling in passing. One query."""
    return [words.tale(event.text) for event in position.latest(until, STRIP, without=QUIET)]
