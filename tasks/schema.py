"""What the task endpoints take and answer, for the OpenAPI document."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema_view
from rest_framework import serializers

from retire_cluster.api.parameters import MAX_VALUES
from retire_cluster.api.schema import CURSOR, PAGES, WAIT, GigabytesField, NameField, describe
from retire_cluster.protocol.states import (
    AttemptState,
    DeviceLossPolicy,
    Outcome,
    Platform,
    Priority,
    Role,
    Stream,
    TaskStatus,
)
from tasks import output, submissions
from tasks.views import DEFAULT_PIECES, MAX_PIECES, TaskViewSet

PRIORITIES = [item.value for item in Priority]
STATUSES = [item.value for item in TaskStatus]


class RequirementsSchema(serializers.Serializer[Any]):
    """What a task needs, and how it is to be treated."""

    min_cpu_cores = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=submissions.MAX_CORES
    )
    min_memory_gb = GigabytesField(required=False, allow_null=True)
    min_storage_gb = GigabytesField(required=False, allow_null=True)
    required_platform = serializers.ChoiceField(
        choices=[item.value for item in Platform], required=False, allow_null=True
    )
    required_role = serializers.ChoiceField(
        choices=[item.value for item in Role], required=False, allow_null=True
    )
    required_tags = serializers.ListField(child=NameField(), required=False, max_length=submissions.MAX_TAGS)
    gpu_required = serializers.BooleanField(required=False)
    internet_required = serializers.BooleanField(required=False)
    timeout_seconds = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=submissions.MAX_TIMEOUT_S,
        default=submissions.DEFAULT_TIMEOUT_S,
    )
    max_retries = serializers.IntegerField(
        required=False, min_value=0, max_value=submissions.MAX_RETRIES, default=0
    )
    on_device_loss = serializers.ChoiceField(
        choices=[item.value for item in DeviceLossPolicy], required=False
    )


class SubmissionSchema(serializers.Serializer[Any]):
    """A task to run."""

    task_type = serializers.CharField(min_length=1, max_length=100, help_text="GET /tasks/types lists them")
    payload = serializers.DictField(help_text="Input of the type; at most 256 KiB")
    priority = serializers.ChoiceField(choices=PRIORITIES, required=False, default=Priority.NORMAL.value)
    requirements = RequirementsSchema(required=False)
    metadata = serializers.DictField(required=False, help_text="Your own notes")


class BatchSchema(serializers.Serializer[Any]):
    """Tasks to run, all or none."""

    tasks = serializers.ListField(child=SubmissionSchema(), min_length=1, max_length=submissions.MAX_BATCH)


class CreatedTaskSchema(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    task_type = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    priority = serializers.ChoiceField(choices=PRIORITIES)
    created_at = serializers.DateTimeField()


class SubmittedSchema(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    task = CreatedTaskSchema(help_text="With `?wait=`: all list fields, and `result`")


class SubmittedBatchSchema(serializers.Serializer[Any]):
    tasks = CreatedTaskSchema(many=True)
    count = serializers.IntegerField()


class TaskSchema(CreatedTaskSchema):
    assigned_device_id = serializers.CharField(allow_null=True)
    assigned_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    execution_time_seconds = serializers.FloatField(allow_null=True)
    retry_count = serializers.IntegerField()
    progress = serializers.FloatField(allow_null=True, min_value=0, max_value=100)


class TaskActionSchema(TaskSchema):
    cancel_requested = serializers.BooleanField()


class TaskStatusSchema(TaskActionSchema):
    progress_message = serializers.CharField(allow_null=True)
    is_terminal = serializers.BooleanField()
    can_retry = serializers.BooleanField()
    queue_reason = serializers.CharField(allow_null=True, help_text="Why it is not running yet, in words")


class TaskErrorSchema(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    device_id = serializers.CharField()
    outcome = serializers.ChoiceField(choices=[item.value for item in Outcome])
    error_code = serializers.CharField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)


class LateSchema(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(choices=[item.value for item in Outcome])
    reported_at = serializers.DateTimeField()
    ran_s = serializers.FloatField(help_text="As the device measured it")
    error_message = serializers.CharField(allow_blank=True)
    result = serializers.CharField(allow_blank=True, help_text="The beginning of the result's JSON text")


class AttemptSchema(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    round = serializers.IntegerField()
    device_id = serializers.CharField()
    state = serializers.ChoiceField(choices=[item.value for item in AttemptState])
    outcome = serializers.ChoiceField(choices=[item.value for item in Outcome], allow_null=True)
    reason = serializers.CharField(allow_null=True)
    confirmed = serializers.BooleanField(allow_null=True)
    assigned_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    execution_time_seconds = serializers.FloatField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    error_traceback = serializers.CharField(allow_null=True)
    late = LateSchema(
        allow_null=True, help_text="What the device reported after the attempt was given up: evidence only"
    )


class TaskDetailSchema(TaskSchema):
    payload = serializers.DictField()
    requirements = RequirementsSchema()
    metadata = serializers.DictField()
    error_history = TaskErrorSchema(many=True)
    attempts = AttemptSchema(many=True)
    result = serializers.JSONField(allow_null=True)


class TaskResultSchema(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[item.value for item in TaskStatus if item.is_terminal])
    result_data = serializers.JSONField(allow_null=True)
    execution_time_seconds = serializers.FloatField()
    worker_device_id = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField()
    error_message = serializers.CharField(allow_null=True)
    error_traceback = serializers.CharField(allow_null=True)


class TaskResultsSchema(serializers.Serializer[Any]):
    """Each list in the order the ids were given in."""

    results = TaskResultSchema(many=True, help_text="Of the tasks that have ended")
    open = serializers.ListField(child=serializers.UUIDField(), help_text="Tasks that have not ended")
    left_out = serializers.ListField(
        child=serializers.UUIDField(), help_text="Ended, and too much for this answer: ask for them again"
    )
    unknown = serializers.ListField(child=serializers.UUIDField(), help_text="Ids of no task")


class OutputChunkSchema(serializers.Serializer[Any]):
    """A piece of what a task printed."""

    offset = serializers.IntegerField(min_value=0, help_text="Its position in all the task printed")
    attempt = serializers.IntegerField(min_value=1, help_text="Number of the attempt that printed it")
    stream = serializers.ChoiceField(
        choices=[item.value for item in Stream], help_text="`log`: what a handler says beside its output"
    )
    text = serializers.CharField()
    at = serializers.DateTimeField(help_text="When it reached the cluster")
    left_out = serializers.IntegerField(min_value=0, help_text="How much is missing right before it")


class TaskLogsSchema(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUSES)
    chunks = OutputChunkSchema(many=True)
    next_offset = serializers.IntegerField(min_value=0, help_text="`offset` of the next call")
    is_complete = serializers.BooleanField(help_text="The task has ended, and nothing follows")


class CheckSchema(serializers.Serializer[Any]):
    check = serializers.CharField()
    passed = serializers.BooleanField()
    wanted = serializers.CharField()
    found = serializers.CharField()


class JudgedDeviceSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    fits = serializers.BooleanField(help_text="What may change by itself left aside")
    available = serializers.BooleanField(help_text="It could take the task now")
    checks = CheckSchema(many=True)


class ExplanationSchema(serializers.Serializer[Any]):
    reason = serializers.CharField()
    total_devices = serializers.IntegerField()
    fitting_devices = serializers.IntegerField()
    available_devices = serializers.IntegerField()
    devices = JudgedDeviceSchema(many=True, help_text="The nearest 200")


class TaskExplanationSchema(ExplanationSchema):
    task_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUSES)


class DryRunSchema(ExplanationSchema):
    dry_run = serializers.BooleanField()


class TaskTypesSchema(serializers.Serializer[Any]):
    supported_types = serializers.ListField(child=serializers.CharField())
    devices_by_type = serializers.DictField(child=serializers.IntegerField())
    builtin_types = serializers.ListField(child=serializers.CharField())
    custom_types = serializers.ListField(child=serializers.CharField())
    total_count = serializers.IntegerField()
    online_devices = serializers.IntegerField()


class QueueStatsSchema(serializers.Serializer[Any]):
    total_tasks = serializers.IntegerField()
    by_status = serializers.DictField(child=serializers.IntegerField())
    by_priority = serializers.DictField(child=serializers.IntegerField())
    by_device = serializers.DictField(child=serializers.IntegerField())


class PerformanceSchema(serializers.Serializer[Any]):
    """Of the tasks that ended within the last hour."""

    success_rate = serializers.FloatField(min_value=0, max_value=100)
    average_execution_time = serializers.FloatField()
    tasks_per_hour = serializers.IntegerField()
    device_utilization = serializers.DictField(child=serializers.FloatField())


class LoadSchema(serializers.Serializer[Any]):
    pending_tasks = serializers.IntegerField()
    running_tasks = serializers.IntegerField()
    capacity_utilization = serializers.FloatField(min_value=0, max_value=100)


class StatisticsSchema(serializers.Serializer[Any]):
    queue_stats = QueueStatsSchema()
    performance_metrics = PerformanceSchema()
    current_load = LoadSchema()


IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    OpenApiParameter.HEADER,
    description="The same key and body within 24 hours name the same tasks; another body is 409",
)
REPLAYED = {"Location": "Where it is", "Idempotent-Replayed": "`true` when it was there already"}
DRY_RUN = OpenApiParameter("dry_run", bool, description="Store nothing, only say where it could run")
HELLO = OpenApiExample(
    "Hello World",
    {"task_type": "echo", "payload": {"message": "Hello World"}},
    request_only=True,
)
DEMANDING = OpenApiExample(
    "With requirements",
    {
        "task_type": "sleep",
        "payload": {"duration": 2.0},
        "priority": "high",
        "requirements": {"min_cpu_cores": 2, "required_platform": "linux", "timeout_seconds": 300},
        "metadata": {"created_by": "api_user"},
    },
    request_only=True,
)

extend_schema_view(
    list=describe(
        "listTasks",
        TaskSchema(many=True),
        summary="Tasks, newest first",
        paged=True,
        parameters=[*PAGES, CURSOR],
    ),
    create=describe(
        "submitTask",
        SubmittedSchema(),
        summary="Run a task",
        status=201,
        errors=(409,),
        body=SubmissionSchema,
        parameters=[WAIT, DRY_RUN, IDEMPOTENCY],
        headers=REPLAYED,
        examples=[HELLO, DEMANDING],
        further={200: DryRunSchema},
    ),
    batch=describe(
        "submitTasks",
        SubmittedBatchSchema(),
        summary="Run up to 1000 tasks, all or none",
        status=201,
        errors=(409,),
        body=BatchSchema,
        parameters=[IDEMPOTENCY],
        headers=REPLAYED,
    ),
    retrieve=describe("getTask", TaskDetailSchema(), summary="Everything about a task", errors=(404,)),
    status=describe(
        "getTaskStatus", TaskStatusSchema(), summary="Where a task stands", errors=(404,), parameters=[WAIT]
    ),
    result=describe(
        "getTaskResult", TaskResultSchema(), summary="How a task ended", errors=(404,), parameters=[WAIT]
    ),
    results=describe(
        "getTaskResults",
        TaskResultsSchema(),
        summary="How up to 100 tasks ended",
        parameters=[
            OpenApiParameter(
                "task_id",
                {
                    "type": "array",
                    "items": {"type": "string", "format": "uuid"},
                    "minItems": 1,
                    "maxItems": MAX_VALUES,
                },
                required=True,
                description="Their ids: with commas, repeated, or both",
            )
        ],
    ),
    logs=describe(
        "getTaskLogs",
        TaskLogsSchema(),
        summary="What a task prints, also while it runs",
        errors=(404,),
        parameters=[
            OpenApiParameter(
                "offset",
                {"type": "integer", "minimum": 0, "maximum": output.MAX_OFFSET, "default": 0},
                description="Where to go on: `next_offset` of the last answer",
            ),
            OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_PIECES, "default": DEFAULT_PIECES},
                description="At most so many pieces",
            ),
        ],
    ),
    explain=describe(
        "explainTask", TaskExplanationSchema(), summary="Which devices could run a task", errors=(404,)
    ),
    cancel=describe("cancelTask", TaskActionSchema(), summary="Cancel a task", errors=(404, 409)),
    retry=describe("retryTask", TaskActionSchema(), summary="Run a task once more", errors=(404, 409)),
    statistics=describe("getTaskStatistics", StatisticsSchema(), summary="Counts and performance of tasks"),
    types=describe("listTaskTypes", TaskTypesSchema(), summary="Task types that online devices offer"),
)(TaskViewSet)
