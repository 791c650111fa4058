"""The tasks: newest first, filters kept in the address, several cancelled or retried at once."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse

from clusterconfig import permissions
from clusterconfig.keys import Scope
from retire_cluster.api.errors import ApiError
from retire_cluster.api.pagination import after_cursor
from retire_cluster.dashboard import access, filtering, words
from retire_cluster.dashboard.access import Refusal, action, page
from retire_cluster.dashboard.shell import show
from retire_cluster.protocol.states import Priority, TaskStatus
from tasks import explain, services, statistics
from tasks.filters import TaskFilter
from tasks.models import Task
from tasks.rules import NotAllowed

ON_A_PAGE = 50
MOST_AT_ONCE = 200
REASONS = 5  # told of those that were refused


@page
def tasks(request: HttpRequest) -> HttpResponse:
    """Those the filters in the address leave."""
    found, problems = filtering.apply(TaskFilter, request, Task.objects.newest().for_list())
    try:
        rows, following = after_cursor(found, request.GET.get("cursor", ""), "created_at", ON_A_PAGE)
    except ApiError as error:
        problems += filtering.problems_of(error)
        rows, following = after_cursor(found, "", "created_at", ON_A_PAGE)
    reasons = explain.queue_reasons(rows)
    return show(
        request,
        "dashboard/tasks.html",
        parts=("chips", "tasks"),
        topics="task",
        status=400 if problems else 200,
        problems=problems,
        rows=[(task, reasons.get(task.pk, "")) for task in rows],
        following=following,
        is_later_page=bool(request.GET.get("cursor")),
        chips=_chips(request),
        priorities=[item.value for item in Priority],
        given={name: request.GET.get(name, "") for name in TaskFilter.base_filters},
    )


def _chips(request: HttpRequest) -> list[dict[str, Any]]:
    """Each status with its count over all tasks, as a link that keeps the other filters."""
    kept = {name: value for name, value in request.GET.items() if value and name not in ("status", "cursor")}
    counts = statistics.queue_stats()["by_status"]
    chosen = request.GET.get("status", "")
    every = {
        "word": "all",
        "count": sum(counts.values()),
        "link": "?" + urlencode(kept),
        "is_chosen": not chosen,
    }
    return [every] + [
        {
            "word": status.value,
            "count": counts[status],
            "link": "?" + urlencode({**kept, "status": status.value}),
            "is_chosen": chosen == status.value,
        }
        for status in TaskStatus
    ]


# --- buttons --------------------------------------------------------------------------------------------------


@action(Scope.OPERATE)
def cancel(request: HttpRequest) -> HttpResponse:
    """End the chosen tasks: waiting ones at once, running ones as soon as their device confirms."""
    actor = permissions.staff_actor(request)
    return _each(request, "cancelled", lambda task_id: services.cancel(task_id, actor=actor))


@action(Scope.OPERATE)
def retry(request: HttpRequest) -> HttpResponse:
    """Run the chosen tasks once more."""
    actor = permissions.staff_actor(request)
    return _each(request, "queued again", lambda task_id: services.retry(task_id, actor=actor))


def _each(request: HttpRequest, done: str, act: Callable[[UUID], Task]) -> HttpResponse:
    """Act on each; one that cannot be keeps none of the others from it, and is told with its reason."""
    chosen = _chosen(request)
    refused: list[str] = []
    for task_id in chosen:
        try:
            act(task_id)
        except NotAllowed as refusal:
            refused.append(f"{words.short_id(task_id)}: {refusal}")
        except Task.DoesNotExist:
            refused.append(f"{words.short_id(task_id)}: there is no such task any more")
    if len(chosen) > len(refused):
        messages.success(request, f"{words.counted(len(chosen) - len(refused), 'task')} {done}.")
    for reason in refused[:REASONS]:
        messages.error(request, f"Not {done}: {reason}")
    if len(refused) > REASONS:
        messages.error(request, f"And {len(refused) - REASONS} more.")
    return access.back(request, "dashboard:tasks")


def _chosen(request: HttpRequest) -> list[UUID]:
    try:
        chosen = list(dict.fromkeys(UUID(text) for text in request.POST.getlist("task")))
    except ValueError:
        raise Refusal("task: must be the id of a task") from None
    if not chosen:
        raise Refusal("No task was chosen: tick some in the list first.")
    if len(chosen) > MOST_AT_ONCE:
        raise Refusal(f"At most {MOST_AT_ONCE} tasks at once.")
    return chosen
