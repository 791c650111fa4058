"""Tasks: submit, list, look at one, wait for its end."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import uuid6
from django.db.models import QuerySet
from django.urls import reverse
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from clusterconfig.permissions import OpenSubmit, principal, require_right_to_run
from devices.models import Device
from retire_cluster.api.errors import ApiError, ErrorCode, FieldError, invalid, not_found, too_many
from retire_cluster.api.pending import Pending, attach, wait_seconds
from retire_cluster.protocol.states import TaskStatus
from tasks import serializers, services, submissions, waiting
from tasks.filters import TASK_FILTERS
from tasks.models import Task

_TASK_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class TaskViewSet(GenericViewSet[Task]):
    """Tasks, newest first.

    Filters: status, task_type, priority, device_id, created_after, created_before. Pages: `page` and `page_size`,
    or `cursor` (empty for the first page, then `next_cursor`). POST one to run it; `?wait=SECONDS` waits for
    its end.
    """

    lookup_value_regex = "[^/]+"
    filters = TASK_FILTERS
    cursor_field = "created_at"
    permission_classes = (OpenSubmit,)

    def get_queryset(self) -> QuerySet[Task]:
        return Task.objects.newest().for_list()

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([serializers.task_row(task) for task in page or []])

    def create(self, request: Request) -> Response:
        seconds = wait_seconds(request)
        submission = submissions.parse(request.data)
        require_right_to_run(request, submission.task_type, services.BUILTIN_TASK_TYPES)
        task_id = uuid6.uuid7()
        with ExitStack() as interest:
            # Before the insert commits: a fast device may finish the task before this thread goes on.
            waiter = interest.enter_context(waiting.register(task_id)) if seconds else None
            task = _submit(submission, task_id, principal(request))
            response = Response(
                serializers.task_created(task),
                status=201,
                headers={"Location": reverse("task-detail", args=[task_id])},
            )
            if waiter is not None:
                attach(
                    response,
                    Pending(waiter, seconds, _later(task_id, serializers.task_awaited), interest.pop_all()),
                )
        return response

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(serializers.task_detail(find(pk)))

    @action(detail=True)
    def status(self, request: Request, pk: str) -> Response:
        return _answer(request, pk, _status)

    @action(detail=True)
    def result(self, request: Request, pk: str) -> Response:
        return _answer(request, pk, _result)

    @action(detail=False)
    def types(self, request: Request) -> Response:
        return Response(_task_types())


def find(task_id: str) -> Task:
    """A task by its id in the path. Raises the API's 404."""
    task = Task.objects.filter(pk=UUID(task_id)).first() if _TASK_ID.fullmatch(task_id) else None
    if task is None:
        raise not_found(ErrorCode.TASK_NOT_FOUND, f"there is no task {task_id[:64]!r}", task_id=task_id[:64])
    return task


def _submit(submission: services.Submission, task_id: UUID, submitted_by: str) -> Task:
    try:
        [task] = services.submit([submission], principal=submitted_by, task_ids=[task_id])
    except services.UnknownTaskType as error:
        raise invalid(FieldError("task_type", str(error))) from None
    except services.TooManyProfiles as error:
        raise too_many(str(error)) from None
    return task


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
    return serializers.task_result(task)


def _not_ready(task: Task) -> ApiError:
    message = f"the task is {task.status}; ask again when it has ended, or add ?wait=SECONDS"
    return not_found(ErrorCode.RESULT_NOT_READY, message, task_id=str(task.pk), status=task.status)


def _task_types() -> dict[str, Any]:
    offered = Device.objects.members().filter(online=True).offered_types()
    return {
        "supported_types": list(offered.types),
        "devices_by_type": offered.types,
        "builtin_types": list(services.BUILTIN_TASK_TYPES),
        "custom_types": sorted(set(offered.types) - set(services.BUILTIN_TASK_TYPES)),
        "total_count": len(offered.types),
        "online_devices": offered.devices,
    }
