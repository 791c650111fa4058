"""Admin pages: tasks, attempts and requirement profiles, to look at. Only the life cycle writes them."""

from django.contrib import admin

from clusterconfig.admin import ReadOnlyAdmin
from tasks.models import Attempt, IdempotencyKey, OutputChunk, Profile, QueueSample, Tally, Task


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "task_type",
        "status",
        "priority",
        "device_id",
        "created_at",
        "finished_at",
        "execution_s",
    )
    list_filter = ("status", "priority")
    search_fields = ("=id", "=task_type", "=device_id")
    ordering = ("-created_at", "-id")


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "task_id",
        "no",
        "round",
        "device_id",
        "state",
        "outcome",
        "reason",
        "offered_at",
        "ended_at",
    )
    list_filter = ("state", "outcome")
    search_fields = ("=id", "=task__id", "=device__id")
    ordering = ("-offered_at", "-id")


@admin.register(OutputChunk)
class OutputChunkAdmin(ReadOnlyAdmin):
    list_display = ("task_id", "offset", "attempt", "stream", "start", "at")
    list_filter = ("stream",)
    search_fields = ("=task__id",)
    ordering = ("-id",)

    @admin.display(description="text")
    def start(self, chunk: OutputChunk) -> str:
        """The beginning, in one line."""
        return " ".join(chunk.text[:200].split())


@admin.register(Profile)
class ProfileAdmin(ReadOnlyAdmin):
    list_display = ("id", "task_type", "requirements", "last_used_at")
    search_fields = ("task_type",)


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "client", "created_at")
    search_fields = ("=key",)
    ordering = ("-id",)


@admin.register(Tally)
class TallyAdmin(ReadOnlyAdmin):
    list_display = ("name", "label", "shard", "value")
    search_fields = ("name",)
    ordering = ("name", "label", "shard")


@admin.register(QueueSample)
class QueueSampleAdmin(ReadOnlyAdmin):
    list_display = ("at", "waiting", "running")
    ordering = ("-at",)
