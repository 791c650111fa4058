"""What happened: the events for everybody, the audit trail for administrators."""

from django.http import HttpRequest, HttpResponse

from clusterconfig.filters import AuditFilter
from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry
from retire_cluster.api.errors import ApiError
from retire_cluster.api.pagination import after_cursor
from retire_cluster.dashboard import access, filtering, words
from retire_cluster.dashboard.access import page
from retire_cluster.dashboard.shell import show
from retire_cluster.events import position
from retire_cluster.events.frames import Event

EVENTS = 100
RECORDS = 50
QUIET = ("task.output", "task.progress")  # shown where the task is
TOPICS = ("task", "device", "cluster", "config")


@page
def activity(request: HttpRequest) -> HttpResponse:
    """The latest events, and who did what."""
    topic = request.GET.get("topic", "")
    events = [words.tale(event.text) for event in _latest(request)]
    may_audit = access.may(request, Scope.ADMIN)
    records, following, problems = _records(request) if may_audit else ([], None, [])
    return show(
        request,
        "dashboard/activity.html",
        parts=("events",),
        status=400 if problems else 200,
        events=[event for event in events if not topic or event.kind.partition(".")[0] == topic],
        topic=topic,
        topics_offered=TOPICS,
        records=records,
        following=following,
        problems=problems,
        action=request.GET.get("action", ""),
        target=request.GET.get("target", ""),
    )


def _latest(request: HttpRequest) -> list[Event]:
    return position.latest(request.META[access.CURSOR], EVENTS, without=QUIET)


def _records(request: HttpRequest) -> tuple[list[AuditEntry], str | None, list[object]]:
    found, wrong = filtering.apply(AuditFilter, request, AuditEntry.objects.order_by("-at", "-id"))
    problems: list[object] = list(wrong)
    try:
        rows, following = after_cursor(found, request.GET.get("cursor", ""), "at", RECORDS)
    except ApiError as error:
        problems += filtering.problems_of(error)
        rows, following = after_cursor(found, "", "at", RECORDS)
    return rows, following, problems
