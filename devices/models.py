"""Devices, what is last known of their health, and the gateways they are connected to."""

import uuid

from django.db import models
from django.db.models import Q

from devices.querysets import DeviceQuerySet
from retire_cluster.protocol.states import Platform, Role


class Gateway(models.Model):
    """One run of a gateway process."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    tls = models.BooleanField()
    started_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True, help_text="When it last said that it lives; not on SQLite")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Device(models.Model):
    """A machine that joined. Everything it reported about itself is untrusted text and numbers."""

    id = models.CharField(max_length=64, primary_key=True)
    role = models.CharField(max_length=10, choices=[(role.value, role.value) for role in Role])
    platform = models.CharField(max_length=10, choices=[(item.value, item.value) for item in Platform])
    tags = models.JSONField(default=list)
    task_types = models.JSONField(default=list)
    slots = models.PositiveIntegerField()
    capabilities = models.JSONField(default=dict, help_text="As reported; null means unknown")
    cpu_count = models.PositiveIntegerField(null=True)
    memory_mb = models.PositiveBigIntegerField(null=True, help_text="Total, in units of 2^20 bytes")
    allocatable_memory_mb = models.PositiveBigIntegerField(null=True)
    storage_mb = models.PositiveBigIntegerField(null=True)
    has_gpu = models.BooleanField(null=True)
    has_internet = models.BooleanField(null=True)
    agent_version = models.CharField(max_length=255, default="")
    ip_address = models.CharField(max_length=45, default="")

    secret_digest = models.CharField(max_length=64)
    secret_confirmed = models.BooleanField(
        default=False,
        help_text="The device used its secret; until then it may join again, should the answer be lost",
    )
    join_token = models.ForeignKey("clusterconfig.JoinToken", null=True, on_delete=models.SET_NULL)
    session = models.PositiveBigIntegerField(default=0, help_text="Grows with every accepted connection")
    link_no = models.PositiveBigIntegerField(
        default=0, help_text="The newest session the device confirmed to have stored; 0 before the first"
    )
    run_id = models.CharField(max_length=32, default="", help_text="Random per agent process")
    gateway = models.ForeignKey(Gateway, null=True, on_delete=models.SET_NULL)
    online = models.BooleanField(default=False)
    status_reason = models.CharField(max_length=500, default="", blank=True)
    paused_reason = models.CharField(
        max_length=500,
        default="",
        blank=True,
        help_text="Why its agent takes no new task, in its own words; empty: it takes them",
    )
    cordoned = models.BooleanField(default=False)
    cordon_reason = models.CharField(max_length=500, default="", blank=True)
    draining = models.BooleanField(default=False, help_text="Cordoned, and what runs is to end")
    drain_deadline = models.DateTimeField(null=True, help_text="Then what still runs is requeued")
    registered_at = models.DateTimeField()
    connected_at = models.DateTimeField(null=True)
    disconnected_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True, help_text="Soft: the history keeps its name")
    left = models.BooleanField(
        default=False, help_text="It removed itself, so a token is enough to come back"
    )

    objects = DeviceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(online=False) | Q(removed_at=None), name="device_removed_is_offline"
            ),
            models.CheckConstraint(condition=Q(slots__gte=1), name="device_slots_positive"),
        ]
        indexes = [
            models.Index(fields=["gateway"], condition=Q(online=True), name="device_online_by_gateway"),
            # What gateways look for each second; both are nearly always empty.
            models.Index(
                fields=["gateway"],
                condition=Q(removed_at__isnull=False, gateway__isnull=False),
                name="device_to_dismiss",
            ),
            models.Index(fields=["drain_deadline"], condition=Q(draining=True), name="device_draining"),
        ]

    def __str__(self) -> str:
        return self.id


class Presence(models.Model):
    """Last signs of life: never locked, never in a claim, written in batches by the gateway."""

    device = models.OneToOneField(Device, primary_key=True, on_delete=models.CASCADE)
    last_seen = models.DateTimeField()
    heartbeats = models.PositiveBigIntegerField(default=0)
    metrics = models.JSONField(default=dict)
    history = models.JSONField(default=list, help_text="The latest metrics with their times, oldest first")


class MetricsSample(models.Model):
    """A quarter of an hour of a device, for charts; of two rows for the same one each is a part: see samples.py."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, db_index=False)
    start = models.DateTimeField()
    heartbeats = models.PositiveIntegerField(help_text="How many it is made of")
    values = models.JSONField(
        help_text="Lowest, mean, highest and number of readings by name; null is missing"
    )

    class Meta:
        indexes = [
            models.Index(fields=["device", "start"], name="sample_by_device"),
            models.Index(fields=["start"], name="sample_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} from {self.start:%Y-%m-%d %H:%M}"


class Ping(models.Model):
    """A round trip somebody asked for: the gateway that owns the device sends it, and writes the answer here."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    device = models.ForeignKey(Device, on_delete=models.CASCADE)
    requested_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    response_time_ms = models.FloatField(null=True, help_text="Null in an ended one: there was no answer")
    failure = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["requested_at"], condition=Q(ended_at=None), name="ping_open"),
        ]

    def __str__(self) -> str:
        return f"ping of {self.device_id}"
