"""One task: a sentence, its attempts, what it prints, its result, why it waits, how to run it again."""

import json
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse

from clusterconfig import permissions
from clusterconfig.keys import Scope
from retire_cluster import db
from retire_cluster.api import envelope
from retire_cluster.dashboard import access, filtering, pictures, words
from retire_cluster.dashboard.access import page
from retire_cluster.dashboard.shell import show
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.states import TaskStatus
from tasks import explain, output, serializers
from tasks.history import Bar
from tasks.models import Attempt, Task
from tasks.submissions import DEFAULT_TIMEOUT_S

MOST_PIECES = 500  # in one answer
PIECES = 200  # of output in the page; the module reads on from there
EXPLAINED = 50  # devices
DEFAULTS = {"timeout_seconds": DEFAULT_TIMEOUT_S, "max_retries": 0, "on_device_loss": "requeue"}
MAX_COPIED = 8 * 1024  # characters of a payload that stand in a command
MAX_TREE = 32 * 1024  # characters of a result that is drawn as a tree


@page
def task(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Everything about it."""
    row = _find(task_id)
    now = db.now()
    attempts = list(row.attempts.order_by("no"))
    deciding = next((attempt for attempt in attempts if attempt.pk == row.result_attempt), None)
    status = TaskStatus(row.status)
    reason = explain.queue_reasons([row]).get(row.pk, "")
    payload = permissions.shown_payload(access.caller(request), row.payload, row.submitted_by, row.task_type)
    beginning = output.read(row.pk, offset=0, limit=PIECES)
    return show(
        request,
        "dashboard/task.html",
        parts=("sentence", "attempts", "facts", "result", "explain"),
        topics="task,device",
        task_id=str(row.pk),
        task=row,
        status=200,
        sentence=sentence(row, deciding, reason),
        is_terminal=status.is_terminal,
        can_retry=status.can_retry,
        can_cancel=not status.is_terminal and row.cancel_requested_at is None,
        attempts=_timeline(row, attempts, now),
        printed=beginning,
        last_attempt=beginning.chunks[-1].attempt if beginning.chunks else "",
        result=_result(deciding),
        payload=payload,
        waits=status == TaskStatus.QUEUED,
        there=_there(row),
        found=None if status.is_terminal else _explained(row),
        may_retry=_may_retry(request, row),
        curl=curl(request, row, payload) if len(payload) <= MAX_COPIED else "",
        python=python(request, row, payload) if len(payload) <= MAX_COPIED else "",
    )


@page
def printed(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """What the task printed from an offset on, as `GET tasks/{id}/logs` has it: for the page's module.

    A page that follows a chatty task asks each time it printed, so this is no call of the API, which are counted.
    """
    row = _find(task_id)
    offset = filtering.whole(request.GET.get("offset", "0"), otherwise=-1)
    if not 0 <= offset <= output.MAX_OFFSET:
        raise BadRequest("offset: must be a position in what the task printed")
    found = serializers.task_logs(row, output.read(row.pk, offset=offset, limit=MOST_PIECES), offset)
    return HttpResponse(envelope.dumps(found), content_type="application/json")


def _find(task_id: UUID) -> Task:
    row = Task.objects.filter(pk=task_id).first()
    if row is None:
        raise Http404(f"there is no task {task_id}")
    return row


@dataclass(frozen=True, slots=True)
class Sentence:
    """How a task stands: words, perhaps the moment since when or at which, and the rest.

    A moment, not a duration: nothing draws the page again while nothing happens, and a duration must go on.
    """

    words: str
    since: datetime | None = None
    due: datetime | None = None
    rest: str = ""


def sentence(row: Task, deciding: Attempt | None, reason: str) -> Sentence:
    """How the task stands, in one sentence. Pure."""
    status = TaskStatus(row.status)
    if row.cancel_requested_at is not None and not status.is_terminal:
        told = f"Being cancelled: {row.device_id} was told to stop it"
        return Sentence(told, since=row.cancel_requested_at, rest=" and has not confirmed yet")
    if status == TaskStatus.QUEUED:
        return Sentence("Queued", since=row.ready_at, rest=f": {reason}")
    if status == TaskStatus.PENDING:
        tries = f": try {row.failures + 1} of {row.max_retries + 1}"
        return Sentence("Failed, to be tried again", due=row.ready_at, rest=tries)
    if status == TaskStatus.ASSIGNED:
        return Sentence(f"Assigned: {reason}")
    if status == TaskStatus.RUNNING:
        return _running(row)
    return Sentence(_ended(row, deciding))


def _running(row: Task) -> Sentence:
    progress = "" if row.progress is None else f", {row.progress:.0f} %"
    message = f": {row.progress_message}" if row.progress_message else ""
    return Sentence(f"Running on {row.device_id}", since=row.started_at, rest=f"{progress}{message}")


def _ended(row: Task, deciding: Attempt | None) -> str:
    where = f" on {deciding.device_id}" if deciding else ""
    took = f" after {words.span(row.execution_s)}" if row.execution_s is not None else ""
    tries = f", at its attempt {deciding.no}" if deciding and deciding.no > 1 else ""
    if row.status == TaskStatus.SUCCESS:
        return f"Succeeded{where}{took}{tries}"
    if row.status == TaskStatus.CANCELLED:
        by = f" by {row.cancel_requested_by}" if row.cancel_requested_by else ""
        return f"Cancelled{by}{where}{took}"
    why = (deciding.error_message or deciding.reason) if deciding else ""
    word = "Timed out" if row.status == TaskStatus.TIMEOUT else "Failed"
    return f"{word}{where}{took}{tries}" + (f": {why.splitlines()[0][:300]}" if why else "")


def _there(row: Task) -> str:
    """What its device does with the task now, if one has it."""
    return {TaskStatus.RUNNING: "runs it", TaskStatus.ASSIGNED: "has the offer"}.get(
        TaskStatus(row.status), ""
    )


def _timeline(row: Task, attempts: list[Attempt], now: datetime) -> list[tuple[Attempt, pictures.Piece]]:
    """Each attempt with its bar, over the time from the submission to the end."""
    until = max(row.finished_at or now, row.created_at + timedelta(milliseconds=1))
    found = []
    for attempt in attempts:
        bar = Bar(
            attempt.device_id,
            str(row.pk),
            row.task_type,
            attempt.no,
            attempt.accepted_at or attempt.offered_at,
            attempt.ended_at,
            attempt.outcome,
        )
        [piece] = pictures.stream([bar], since=row.created_at, until=until)[attempt.device_id]
        found.append((attempt, piece))
    return found


def _result(deciding: Attempt | None) -> dict[str, Any] | None:
    """The result as a tree where it is small enough to be one, and as text."""
    if deciding is None or deciding.result is None:
        return None
    text = deciding.result
    if len(text) > MAX_TREE:
        return {"text": text[:MAX_TREE], "is_cut": True}
    return {"tree": jsontext.loads(text), "text": text, "is_cut": False}


def _explained(row: Task) -> explain.Explanation:
    found = explain.explain_task(row)
    del found.devices[EXPLAINED:]
    return found


def _may_retry(request: HttpRequest, row: Task) -> bool:
    return access.may(request, Scope.OPERATE) and access.may_run(request, row.task_type) == ""


# --- how to run it again --------------------------------------------------------------------------------------


def body(row: Task, payload: str) -> dict[str, Any]:
    """The request that makes a task like this one, without what is as by default."""
    wanted = {
        name: value
        for name, value in row.requirements.items()
        if value not in (None, [], False) and value != DEFAULTS.get(name)
    }
    made: dict[str, Any] = {"task_type": row.task_type, "payload": jsontext.loads(payload)}
    if row.priority != "normal":
        made["priority"] = row.priority
    parts = {"requirements": wanted, "metadata": row.metadata}
    return {**made, **{name: part for name, part in parts.items() if part}}


def curl(request: HttpRequest, row: Task, payload: str) -> str:
    """The command that submits a task like this one."""
    lines = [
        f"curl -X POST {_address(request)}",
        "-H 'X-API-Key: YOUR-KEY'",
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(json.dumps(body(row, payload), ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)


def python(request: HttpRequest, row: Task, payload: str) -> str:
    """The same with Python and nothing else installed."""
    return (
        "import json, urllib.request\n\n"
        f"task = {body(row, payload)!r}\n"
        f"request = urllib.request.Request({_address(request)!r}, json.dumps(task).encode(),\n"
        "    {'Content-Type': 'application/json', 'X-API-Key': 'YOUR-KEY'})\n"
        "print(json.load(urllib.request.urlopen(request))['data']['task_id'])\n"
    )


def _address(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}/api/v1/tasks"
