"""Admin pages: tasks to cancel and to retry, attempts and profiles to look at. Only the life cycle writes them."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from clusterconfig.backoffice import selection
from clusterconfig.backoffice.base import LargeTableAdmin, ReadOnlyAdmin
from clusterconfig.backoffice.columns import (
    NOTHING,
    block,
    brief,
    column,
    link,
    listed,
    parsed,
    word,
)
from clusterconfig.backoffice.filters import exact
from retire_cluster.protocol.states import Outcome, TaskStatus
from tasks import services
from tasks.models import Attempt, IdempotencyKey, OutputChunk, Profile, QueueSample, Tally, Task
from tasks.rules import NotAllowed

STATUS_COLOURS: dict[str, str] = {
    TaskStatus.ASSIGNED: "info",
    TaskStatus.RUNNING: "info",
    TaskStatus.SUCCESS: "success",
    TaskStatus.FAILED: "danger",
    TaskStatus.TIMEOUT: "danger",
    TaskStatus.CANCELLED: "warning",
    # Words only attempts have.
    Outcome.LOST: "danger",
    Outcome.RETURNED: "warning",
}


@admin.register(Task)
class TaskAdmin(LargeTableAdmin):
    list_display = (
        "id",
        word("status", STATUS_COLOURS),
        "task_type",
        "priority",
        "on_device",
        "created_at",
        "started_at",
        "finished_at",
        "execution_s",
        "submitted_by",
    )
    list_filter = (
        "status",
        "priority",
        exact("task_type", "task type"),
        exact("device_id", "device"),
        "created_at",
    )
    search_fields = ("id", "task_type", "device_id")
    search_help_text = "Whole id, task type or device"
    ordering = ("-created_at", "-id")
    long_texts = ("payload",)
    not_in_lists = ("payload", "requirements", "metadata")
    actions = ("cancel", "retry")
    fieldsets = (
        (None, {"fields": ("id", "status", "waits_for", "progress", "progress_message", "on_device")}),
        (
            "Asked for",
            {
                "fields": (
                    "task_type",
                    "payload",
                    "priority",
                    "requirements",
                    "metadata",
                    "timeout_s",
                    "max_retries",
                    "on_device_loss",
                    "submitted_by",
                )
            },
        ),
        ("Came of it", {"fields": ("result", "error", "execution_s", "attempts", "output")}),
        (
            "Times",
            {"fields": ("created_at", "ready_at", "assigned_at", "started_at", "finished_at")},
        ),
        (
            "Inner life",
            {
                "classes": ("collapse",),
                "fields": (
                    "round",
                    "attempt_no",
                    "failures",
                    "losses",
                    "avoid_device",
                    "cancel_requested_at",
                    "cancel_requested_by",
                    "profile",
                    "rank",
                    "version",
                ),
            },
        ),
    )

    @column("device")
    def on_device(self, task: Task) -> str:
        return link("devices_device", task.device_id)

    @column("waits for")
    def waits_for(self, task: Task) -> str:
        return services.queue_reasons([task]).get(task.pk) or NOTHING

    @column("result")
    def result(self, task: Task) -> str:
        attempt = _last_word(task)
        return block(parsed(attempt.result)) if attempt and attempt.result is not None else NOTHING

    @column("error")
    def error(self, task: Task) -> str:
        attempt = _last_word(task)
        parts = (attempt.error_code, attempt.error_message, attempt.error_traceback) if attempt else ()
        return block("\n".join(filter(None, parts)))

    @column("attempts")
    def attempts(self, task: Task) -> str:
        return listed("tasks_attempt", f"{task.attempt_no} so far", task_id=task.pk)

    @column("output")
    def output(self, task: Task) -> str:
        return listed("tasks_outputchunk", "what it printed", task_id=task.pk)

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        outcome = selection.apply(
            request, queryset, lambda key, who: services.cancel(key, actor=who), (NotAllowed,)
        )
        selection.say(request, outcome, "cancelled, or asked to stop")

    @admin.action(description="Retry: open a new round", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        outcome = selection.apply(
            request, queryset, lambda key, who: services.retry(key, actor=who), (NotAllowed,)
        )
        selection.say(request, outcome, "queued again")


def _last_word(task: Task) -> Attempt | None:
    """The attempt whose end is the task's."""
    return Attempt.objects.filter(pk=task.result_attempt).first() if task.result_attempt else None


@admin.register(Attempt)
class AttemptAdmin(LargeTableAdmin):
    list_display = (
        "id",
        "of",
        "no",
        "round",
        "on_device",
        word("state", {"running": "info"}),
        word("outcome", STATUS_COLOURS),
        "reason",
        "offered_at",
        "ended_at",
        "ran_s",
    )
    list_filter = ("state", "outcome", exact("device_id", "device"), exact("task_id", "task"))
    search_fields = ("id", "task_id", "device_id")
    search_help_text = "Whole id of an attempt or task, or a device"
    # Ids of tasks grow with time, and (task, number) has an index; the times of attempts have none.
    ordering = ("-task_id", "-no")
    long_texts = ("result", "late", "error_traceback")
    not_in_lists = ("result", "late", "error_message", "error_traceback")

    @column("task")
    def of(self, attempt: Attempt) -> str:
        return link("tasks_task", attempt.task_id)

    @column("device")
    def on_device(self, attempt: Attempt) -> str:
        return link("devices_device", attempt.device_id)


@admin.register(OutputChunk)
class OutputChunkAdmin(LargeTableAdmin):
    list_display = ("id", "of", "offset", "attempt", "stream", brief("text"), "at")
    list_filter = ("stream", exact("task_id", "task"))
    search_fields = ("task_id",)
    search_help_text = "Whole id of a task"
    ordering = ("-id",)

    @column("task")
    def of(self, chunk: OutputChunk) -> str:
        return link("tasks_task", chunk.task_id)


@admin.register(Profile)
class ProfileAdmin(ReadOnlyAdmin):
    list_display = ("id", "task_type", brief("requirements"), "last_used_at")
    search_fields = ("task_type",)
    ordering = ("-last_used_at", "-id")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(LargeTableAdmin):
    list_display = ("key", "client", brief("task_ids"), "created_at")
    list_filter = (exact("client", "client"), "created_at")
    search_fields = ("key",)
    search_help_text = "Whole key"
    ordering = ("-id",)


@admin.register(Tally)
class TallyAdmin(ReadOnlyAdmin):
    plural = "counters"
    list_display = ("name", "label", "shard", "value")
    search_fields = ("name", "label")
    ordering = ("name", "label", "shard")


@admin.register(QueueSample)
class QueueSampleAdmin(ReadOnlyAdmin):
    list_display = ("at", "waiting", "running")
    ordering = ("-at",)
