"""Tasks, their attempts and the requirement profiles they share. Only lifecycle.py changes a status."""

import uuid

import uuid6
from django.db import models
from django.db.models import Q

from retire_cluster.protocol.states import (
    TERMINAL,
    AttemptState,
    DeviceLossPolicy,
    Outcome,
    Priority,
    Stream,
    TaskStatus,
)
from tasks.querysets import TaskQuerySet

_TERMINAL = sorted(TERMINAL)


class Profile(models.Model):
    """A distinct set of placement requirements; immutable. Tasks with equal ones share the row."""

    digest = models.CharField(max_length=64, unique=True)
    task_type = models.CharField(max_length=100)
    requirements = models.JSONField(help_text="Canonical placement keys only")
    last_used_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.task_type} {self.requirements or ''}".strip()


class Task(models.Model):
    """A unit of work a user submitted."""

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    task_type = models.CharField(max_length=100)
    priority = models.CharField(max_length=6, choices=[(item.value, item.value) for item in Priority])
    payload = models.TextField(help_text="JSON text as submitted")
    requirements = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)
    profile = models.ForeignKey(Profile, on_delete=models.PROTECT)
    timeout_s = models.PositiveIntegerField()
    max_retries = models.PositiveSmallIntegerField()
    on_device_loss = models.CharField(
        max_length=7, choices=[(item.value, item.value) for item in DeviceLossPolicy]
    )
    submitted_by = models.CharField(max_length=100, default="", blank=True)
    created_at = models.DateTimeField()

    status = models.CharField(max_length=9, choices=[(item.value, item.value) for item in TaskStatus])
    round = models.PositiveIntegerField(default=1, help_text="A user's retry opens a new one")
    attempt_no = models.PositiveIntegerField(default=0, help_text="The last number given")
    rank = models.BigIntegerField(help_text="Microseconds; the smallest goes first")
    ready_at = models.DateTimeField()
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=100, default="", blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Failures and timeouts in this round")
    losses = models.PositiveIntegerField(default=0, help_text="Lost devices in this round")
    avoid_device = models.CharField(max_length=64, default="", blank=True)
    # Of the latest attempt, so that a list of tasks needs no join.
    device_id = models.CharField(max_length=64, default="", blank=True)
    assigned_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    progress = models.FloatField(null=True, help_text="Percent, as the running attempt says")
    progress_message = models.CharField(max_length=500, default="", blank=True)
    execution_s = models.FloatField(null=True, help_text="Measured on the device's monotonic clock")
    result_attempt = models.UUIDField(null=True)
    version = models.PositiveIntegerField(default=1)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=[item.value for item in TaskStatus]), name="task_status"
            ),
            models.CheckConstraint(
                condition=Q(status__in=_TERMINAL, finished_at__isnull=False)
                | (~Q(status__in=_TERMINAL) & Q(finished_at=None)),
                name="task_finished_exactly_when_terminal",
            ),
        ]
        indexes = [
            models.Index(fields=["profile", "rank", "id"], condition=Q(status="queued"), name="task_queue"),
            models.Index(fields=["ready_at"], condition=Q(status="pending"), name="task_pending"),
            # The list, and the list by each of its filters: walked in its order, never sorted. See decision 10.
            models.Index(fields=["-created_at", "-id"], name="task_newest"),
            # With the priority at its end: statistics count by both, from the index alone.
            models.Index(fields=["status", "-created_at", "-id", "priority"], name="task_by_status"),
            models.Index(fields=["priority", "-created_at", "-id"], name="task_by_priority"),
            models.Index(fields=["task_type", "-created_at", "-id"], name="task_by_type"),
            models.Index(fields=["device_id", "-created_at", "-id"], name="task_by_device"),
            # What ended lately, for figures of the last hour.
            models.Index(
                fields=["-finished_at"], condition=Q(finished_at__isnull=False), name="task_finished"
            ),
            models.Index(
                fields=["cancel_requested_at"],
                condition=Q(status__in=["assigned", "running"], cancel_requested_at__isnull=False),
                name="task_cancelling",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_type} {self.id}"


class Attempt(models.Model):
    """One try of a task on one device. The id is the lease token: random, so never issued twice."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Without indexes of their own: others below begin with the task and with the device.
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    round = models.PositiveIntegerField()
    no = models.PositiveIntegerField()
    device = models.ForeignKey(
        "devices.Device", on_delete=models.PROTECT, related_name="attempts", db_index=False
    )
    session = models.PositiveBigIntegerField(help_text="The device's session that may report on it")
    state = models.CharField(max_length=7, choices=[(item.value, item.value) for item in AttemptState])
    outcome = models.CharField(
        max_length=9, default="", blank=True, choices=[(item.value, item.value) for item in Outcome]
    )
    reason = models.CharField(max_length=500, default="", blank=True)
    confirmed = models.BooleanField(null=True, help_text="Whether the device confirmed that the work is over")
    slots = models.PositiveIntegerField()
    memory_mb = models.PositiveBigIntegerField(default=0)
    storage_mb = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField()
    offered_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    ran_s = models.FloatField(null=True)
    result = models.TextField(null=True, help_text="JSON text as reported")  # noqa: DJ001 null = no result
    error_code = models.CharField(max_length=40, default="", blank=True)
    error_message = models.TextField(default="", blank=True)
    error_traceback = models.TextField(default="", blank=True)
    late = models.TextField(
        default="", blank=True, help_text="First outcome reported after the end, as evidence"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["task"], condition=~Q(state="ended"), name="attempt_one_live_per_task"
            ),
            models.UniqueConstraint(fields=["task", "no"], name="attempt_number"),
            models.CheckConstraint(
                condition=Q(state="ended", ended_at__isnull=False) & ~Q(outcome="")
                | Q(state__in=["offered", "running"], ended_at=None, outcome=""),
                name="attempt_outcome_exactly_when_ended",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(accepted_at__isnull=False),
                name="attempt_running_was_accepted",
            ),
            models.CheckConstraint(condition=Q(no__gte=1, round__gte=1, slots__gte=1), name="attempt_counts"),
        ]
        indexes = [
            models.Index(
                fields=["device", "slots", "memory_mb", "storage_mb"],
                condition=~Q(state="ended"),
                name="attempt_live_by_device",
            ),
            models.Index(fields=["lease_until"], condition=~Q(state="ended"), name="attempt_lease"),
            # What people look at: how the last hour went, and what a device did.
            models.Index(fields=["-ended_at", "outcome"], condition=Q(state="ended"), name="attempt_ended"),
            models.Index(fields=["device", "-offered_at"], name="attempt_by_device"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.no} of {self.task_id}"


class OutputChunk(models.Model):
    """A piece of what a task printed. A task has head and tail of it, within bounds: see output.py."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="output", db_index=False)
    offset = models.PositiveBigIntegerField(help_text="Characters before it, over all attempts")
    attempt = models.PositiveIntegerField(help_text="Number of the attempt")
    number = models.PositiveIntegerField(help_text="Of the piece in its attempt")
    stream = models.CharField(max_length=6, choices=[(item.value, item.value) for item in Stream])
    text = models.TextField()
    at = models.DateTimeField(help_text="When the gateway stored it")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "offset"], name="output_in_order")]

    def __str__(self) -> str:
        return f"output of {self.task_id} at {self.offset}"


class IdempotencyKey(models.Model):
    """A submission a client may repeat: the same key and body name the tasks that were made for it."""

    id = models.BigAutoField(primary_key=True)
    client = models.CharField(max_length=100, help_text="The key's owner, or the address of a stranger")
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the endpoint and the body")
    task_ids = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return self.key


class QueueSample(models.Model):
    """What waited and ran in a minute; written only where it differs from the row before."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(unique=True, help_text="The minute")
    waiting = models.PositiveIntegerField(help_text="Pending and queued tasks")
    running = models.PositiveIntegerField(help_text="Assigned and running tasks")

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}: {self.waiting} waiting, {self.running} running"


class Tally(models.Model):
    """A counter that never falls, written in the transaction that counts. Sum over the shards to read it.

    A shard is one process: two gateways never wait for each other's row.
    """

    id = models.BigAutoField(primary_key=True)
    shard = models.CharField(max_length=36)
    name = models.CharField(max_length=64)
    label = models.CharField(max_length=100, blank=True, default="")
    value = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "label", "shard"], name="tally_once")]

    def __str__(self) -> str:
        return f"{self.name} {self.label}".strip()
