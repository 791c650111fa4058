"""Tasks: submit, list, look at one, wait for its end."""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import uuid6
from django.db.models import QuerySet
from django.urls import reverse
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from clusterconfig.keys import Scope
from clusterconfig.permissions import (
    OpenSubmit,
    actor,
    client_address,
    needs,
    principal,
    require_right_to_run,
    shown_payload,
)
from devices.models import Device
from retire_cluster import bulk
from retire_cluster.api.errors import (
    ApiError,
    ErrorCode,
    FieldError,
    conflict,
    invalid,
    not_found,
    too_many,
)
from retire_cluster.api.parameters import flag, several, whole
from retire_cluster.api.pending import Pending, attach, wait_seconds
from retire_cluster.api.validation import ObjectReader
from retire_cluster.protocol.states import TaskStatus
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES, HARMLESS_TYPES
from tasks import explain as explaining
from tasks import idempotency, output, results, serializers, services, statistics, submissions, waiting
from tasks.filters import TaskFilter
from tasks.models import Task
from tasks.rules import NotAllowed
from tasks.scheduling.profiles import ProfileKey

DEFAULT_PIECES, MAX_PIECES = 100, 500  # of output in one answer
PERFORMANCE = ("success_rate", "average_execution_time", "tasks_per_hour")
_DECIDING_RESULT = "(SELECT result FROM tasks_attempt WHERE tasks_attempt.id = tasks_task.result_attempt)"
_TASK_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class TaskViewSet(GenericViewSet[Task]):
    """Tasks, newest first.

    Filters: status, task_type, priority, device_id, created_after, created_before. Pages: `page` and `page_size`,
    or `cursor` (empty for the first page, then `next_cursor`). POST one to run it; `?wait=SECONDS` waits for
    its end.
    """

    lookup_value_regex = "[^/]+"
    filterset_class = TaskFilter
    cursor_field = "created_at"
    form_example: ClassVar[Any] = {"task_type": "echo", "payload": {"message": "Hello World"}}
    permission_classes = (OpenSubmit,)

    def get_queryset(self) -> QuerySet[Task]:
        return Task.objects.newest()

    def list(self, request: Request) -> Response:
        found = self.filter_queryset(self.get_queryset()).values(*serializers.LISTED)
        page = self.paginate_queryset(found)
        return self.get_paginated_response([serializers.listed_task(row) for row in page or []])

    def create(self, request: Request) -> Response:
        """Run something. `?wait=SECONDS` waits for its end; `?dry_run=true` only says where it could run."""
        seconds = wait_seconds(request)
        dry_run = flag(request, "dry_run")
        _require_right_to_submit(request)
        submission = submissions.parse(request.data)
        if dry_run:
            return Response(_dry_run(submission))
        task_id = uuid6.uuid7()
        with ExitStack() as interest:
            # Before the insert commits: a fast device may finish the task before this thread goes on.
            waiter = interest.enter_context(waiting.register(task_id)) if seconds else None
            submitted = _submit(request, [submission], [task_id])
            [task] = submitted.tasks
            location = f"{request.path.rstrip('/')}/{task.pk}"
            response = _created(submitted, serializers.task_created(task), location)
            if waiter is not None and submitted.replayed:
                waiter = interest.enter_context(waiting.register(task.pk))
            if submitted.replayed and waiter is not None and _has_ended(task.pk):
                response.data = _awaited(task.pk)
            elif waiter is not None:
                produce = partial(_awaited, task.pk)
                attach(response, Pending(waiter, seconds, produce, interest.pop_all()))
        return response

    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        """Up to 1000 tasks, all or none. Body: `{"tasks": [...]}`."""
        _require_right_to_submit(request)
        batch = submissions.parse_batch(request.data)
        submitted = _submit(request, batch, None)
        return _created(submitted, serializers.tasks_created(submitted.tasks), reverse("task-list"))

    def retrieve(self, request: Request, pk: str) -> Response:
        task = find(pk)
        payload = shown_payload(request, task.payload, task.submitted_by, task.task_type)
        return Response(serializers.task_detail(task, payload))

    @action(detail=True)
    def status(self, request: Request, pk: str) -> Response:
        return _answer(request, pk, _status)

    @action(detail=True)
    def result(self, request: Request, pk: str) -> Response:
        return _answer(request, pk, _result)

    @action(detail=True)
    def logs(self, request: Request, pk: str) -> Response:
        """What the task prints, also while it runs: `offset` says where to go on, `limit` how much to take."""
        offset = whole(request, "offset", 0, low=0, high=output.MAX_OFFSET)
        limit = whole(request, "limit", DEFAULT_PIECES, low=1, high=MAX_PIECES)
        task = find(pk)  # before its output: what ends afterwards is not taken for complete
        return Response(serializers.task_logs(task, output.read(task.pk, offset=offset, limit=limit), offset))

    @action(detail=True)
    def explain(self, request: Request, pk: str) -> Response:
        """Every device with each check passed or failed and the values, the nearest first."""
        task = find(pk)
        found = serializers.explanation(explaining.explain_task(task))
        return Response({"task_id": task.pk, "status": task.status, **found})

    @action(detail=True, methods=["post"], permission_classes=(needs(Scope.OPERATE),))
    def cancel(self, request: Request, pk: str) -> Response:
        """End the task: a waiting one at once, a running one as soon as its device confirms."""
        ObjectReader(request.data).finish()
        return _change(pk, lambda task: services.cancel(task.pk, actor=actor(request)))

    @action(detail=True, methods=["post"], permission_classes=(needs(Scope.OPERATE),))
    def retry(self, request: Request, pk: str) -> Response:
        """Run a task that failed, timed out or was cancelled once more; its history stays."""
        ObjectReader(request.data).finish()
        require_right_to_run(request, find(pk).task_type, HARMLESS_TYPES)
        return _change(pk, lambda task: services.retry(task.pk, actor=actor(request)))

    @action(detail=False)
    def results(self, request: Request) -> Response:
        """How up to 100 tasks ended, in one call: `?task_id=`, repeated or with commas."""
        wanted = several(request, "task_id", _id)
        if not wanted:
            raise invalid(FieldError("task_id", "is required: the ids of the tasks, with commas"))
        return Response(serializers.task_results(results.read(wanted)))

    @action(detail=False)
    def statistics(self, request: Request) -> Response:
        """Counts of all tasks, how those of the last hour went, and the load now."""
        return Response(_statistics())

    @action(detail=False)
    def types(self, request: Request) -> Response:
        return Response(_task_types())


def find(task_id: str) -> Task:
    """A task by its id in the path. Raises the API's 404."""
    found = bulk.fetch(Task, {"id": [UUID(task_id)]}) if _TASK_ID.fullmatch(task_id) else []
    if not found:
        raise _no_task(task_id)
    return found[0]


def _id(text: str) -> UUID:
    if not _TASK_ID.fullmatch(text):
        raise ValueError("must be ids of tasks")
    return UUID(text)


def _no_task(task_id: str) -> ApiError:
    return not_found(ErrorCode.TASK_NOT_FOUND, f"there is no task {task_id[:64]!r}", task_id=task_id[:64])


def _submit(
    request: Request, batch: Sequence[services.Submission], task_ids: Sequence[UUID] | None
) -> services.Submitted:
    token = _token(request)
    try:
        return services.submit(batch, actor=actor(request), task_ids=task_ids, token=token)
    except services.UnknownTaskType as error:
        raise invalid(*_unknown_types(request, batch, error)) from None
    except services.TooManyProfiles as error:
        raise too_many(str(error)) from None
    except idempotency.Mismatch:
        message = "this Idempotency-Key was used for another body within the last 24 hours; choose a new one"
        details = {"field": "Idempotency-Key", "reason": message}
        raise conflict(message, ErrorCode.IDEMPOTENCY_MISMATCH, **details) from None


def _unknown_types(
    request: Request, batch: Sequence[services.Submission], error: services.UnknownTaskType
) -> list[FieldError]:
    if "tasks" not in request.data:
        return [FieldError("task_type", str(error))]
    return [
        FieldError(f"tasks[{index}].task_type", error.reasons[item.task_type])
        for index, item in enumerate(batch)
        if item.task_type in error.reasons
    ]


def _token(request: Request) -> idempotency.Token | None:
    """What the header Idempotency-Key makes of the request; None without one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (1 <= len(key) <= idempotency.MAX_KEY and key.isascii() and key.isprintable()):
        reason = f"must have 1 to {idempotency.MAX_KEY} printable ASCII characters"
        raise invalid(FieldError("Idempotency-Key", reason))
    client = principal(request) or f"address:{client_address(request)}"
    return idempotency.token(client=client, key=key, endpoint=request.path.rstrip("/"), body=request.data)


def _has_ended(task_id: UUID) -> bool:
    """Looked at after its waiter was registered, so that its end is not missed."""
    return TaskStatus(find(str(task_id)).status).is_terminal


def _awaited(task_id: UUID) -> dict[str, Any]:
    """A task that was waited for, with its result: one statement, and only what is shown."""
    found = bulk.select_rows(Task, serializers.LISTED, {"id": [task_id]}, more=(_DECIDING_RESULT,))
    if not found:
        raise _no_task(str(task_id))
    *columns, result = found[0]
    return serializers.task_awaited(dict(zip(serializers.LISTED, columns, strict=True)), result)


def _created(submitted: services.Submitted, data: Any, location: str) -> Response:
    headers = {"Location": location}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(data, status=201, headers=headers)


def _require_right_to_submit(request: Request) -> None:
    """Raise 401 or 403 before anything is said about the payload of a type the caller may not run."""
    for task_type in sorted(submissions.named_types(request.data)):
        require_right_to_run(request, task_type, HARMLESS_TYPES)


def _dry_run(submission: services.Submission) -> dict[str, Any]:
    """What explain says of a task like this."""
    try:
        services.check_types({submission.task_type})
    except services.UnknownTaskType as error:
        raise invalid(FieldError("task_type", str(error))) from None
    profile = ProfileKey(submission.task_type, submission.requirements)
    return {"dry_run": True, **serializers.explanation(explaining.explain(profile))}


def _change(task_id: str, act: Callable[[Task], Task]) -> Response:
    """The task after the action; 409 with its state where that does not allow it."""
    try:
        return Response(serializers.task_acted_on(act(find(task_id))))
    except NotAllowed as refusal:
        raise conflict(str(refusal), task_id=task_id, status=refusal.status.value) from None


def _statistics() -> dict[str, Any]:
    performance = statistics.performance()
    return {
        "queue_stats": statistics.queue_stats(),
        "performance_metrics": {
            **{name: performance[name] for name in PERFORMANCE},
            "device_utilization": statistics.device_utilization(),
        },
        "current_load": statistics.current_load(),
    }


def _answer(request: Request, task_id: str, view: Callable[[Task], Any]) -> Response:
    """The view of a task; with `?wait=` of an unfinished one, its view once it ends or time is up."""
    seconds = wait_seconds(request)
    if not seconds or not _TASK_ID.fullmatch(task_id):
        return Response(view(find(task_id)))
    with ExitStack() as interest:
        waiter = interest.enter_context(waiting.register(UUID(task_id)))
        task = find(task_id)
        if TaskStatus(task.status).is_terminal:
            return Response(view(task))
        return attach(Response(None), Pending(waiter, seconds, _later(task.pk, view), interest.pop_all()))


def _later(task_id: UUID, view: Callable[[Task], Any]) -> Callable[[], Any]:
    return lambda: view(find(str(task_id)))


def _status(task: Task) -> dict[str, Any]:
    return serializers.task_status(task, services.queue_reasons([task]).get(task.pk))


def _result(task: Task) -> dict[str, Any]:
    if not TaskStatus(task.status).is_terminal:
        raise _not_ready(task)
    return serializers.task_result(task, results.deciding([task]).get(task.pk))


def _not_ready(task: Task) -> ApiError:
    message = f"the task is {task.status}; ask again when it has ended, or add ?wait=SECONDS"
    return not_found(ErrorCode.RESULT_NOT_READY, message, task_id=str(task.pk), status=task.status)


def _task_types() -> dict[str, Any]:
    offered = Device.objects.members().filter(online=True).offered_types()
    return {
        "supported_types": list(offered.types),
        "devices_by_type": offered.types,
        "builtin_types": list(BUILTIN_TYPES),
        "custom_types": sorted(set(offered.types) - set(BUILTIN_TYPES)),
        "total_count": len(offered.types),
        "online_devices": offered.devices,
    }
