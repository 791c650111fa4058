"""What the device endpoints take and answer, for the OpenAPI document."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_view
from rest_framework import serializers

from devices import operations
from devices.views import MAX_HOURS, DeviceViewSet
from retire_cluster.api.schema import PAGES, describe
from retire_cluster.protocol.states import Platform, Role

CONNECTION = ["online", "offline"]


class CapabilitiesSchema(serializers.Serializer[Any]):
    """null: unknown."""

    cpu_count = serializers.IntegerField(allow_null=True)
    memory_total_gb = serializers.FloatField(allow_null=True)
    storage_total_gb = serializers.FloatField(allow_null=True)
    has_gpu = serializers.BooleanField(allow_null=True)


class DeviceSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    role = serializers.ChoiceField(choices=[item.value for item in Role])
    platform = serializers.ChoiceField(choices=[item.value for item in Platform])
    status = serializers.ChoiceField(choices=CONNECTION)
    status_reason = serializers.CharField(
        help_text="Why it is offline, paused by its owner's limits, or cordoned; empty in full service"
    )
    ip_address = serializers.CharField(allow_null=True)
    last_heartbeat = serializers.DateTimeField(allow_null=True)
    uptime = serializers.CharField(allow_null=True, help_text="Of the machine, such as 2h 30m")
    capabilities = CapabilitiesSchema()
    tags = serializers.ListField(child=serializers.CharField())
    slots = serializers.IntegerField()
    running_tasks = serializers.IntegerField()


class DeviceDetailSchema(DeviceSchema):
    registration_time = serializers.DateTimeField()
    total_heartbeats = serializers.IntegerField()
    agent_version = serializers.CharField()
    task_types = serializers.ListField(child=serializers.CharField())
    full_capabilities = serializers.DictField()
    latest_metrics = serializers.DictField()
    metrics_history = serializers.ListField(child=serializers.DictField(), help_text="The last 60")


class DeviceLoadSchema(serializers.Serializer[Any]):
    slots = serializers.IntegerField()
    running_tasks = serializers.IntegerField()
    cpu_percent = serializers.FloatField(allow_null=True)
    memory_percent = serializers.FloatField(allow_null=True)
    battery_percent = serializers.FloatField(allow_null=True)
    charging = serializers.BooleanField(allow_null=True)
    temperature = serializers.FloatField(allow_null=True, help_text="Degrees Celsius")


class DeviceStatusSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    status = serializers.ChoiceField(choices=CONNECTION)
    is_online = serializers.BooleanField()
    status_reason = serializers.CharField()
    last_heartbeat = serializers.DateTimeField(allow_null=True)
    uptime = serializers.CharField(allow_null=True)
    response_time_ms = serializers.FloatField(allow_null=True, help_text="Of the last ping")
    current_load = DeviceLoadSchema()
    last_metrics = serializers.DictField()


class SpreadSchema(serializers.Serializer[Any]):
    """Of the readings in a quarter of an hour; null: the device told none."""

    min = serializers.FloatField()
    avg = serializers.FloatField()
    max = serializers.FloatField()


class MetricsSampleSchema(serializers.Serializer[Any]):
    timestamp = serializers.DateTimeField(help_text="When the quarter of an hour begins")
    heartbeats = serializers.IntegerField(help_text="How many it is made of")
    cpu_percent = SpreadSchema(allow_null=True)
    memory_percent = SpreadSchema(allow_null=True)
    battery_percent = SpreadSchema(allow_null=True)
    temperature = SpreadSchema(allow_null=True, help_text="Degrees Celsius")
    running_tasks = SpreadSchema(allow_null=True)


class DeviceMetricsSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    interval_seconds = serializers.IntegerField(help_text="Between two samples that follow each other: 900")
    samples = MetricsSampleSchema(
        many=True, help_text="Oldest first; a quarter of an hour without a heartbeat is missing"
    )


class DevicePingSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    ping_successful = serializers.BooleanField()
    response_time_ms = serializers.FloatField(allow_null=True)
    ping_timestamp = serializers.DateTimeField()
    reason = serializers.CharField(required=False, help_text="Why it failed")


class DeviceRemovalSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    removed_at = serializers.DateTimeField()
    was_online = serializers.BooleanField()


class DeviceServiceSchema(serializers.Serializer[Any]):
    device_id = serializers.CharField()
    status = serializers.ChoiceField(choices=CONNECTION)
    status_reason = serializers.CharField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    drain_deadline = serializers.DateTimeField(allow_null=True)
    running_tasks = serializers.IntegerField()


class ReasonSchema(serializers.Serializer[Any]):
    reason = serializers.CharField(required=False, max_length=operations.MAX_REASON, allow_null=True)


class DrainSchema(ReasonSchema):
    deadline_seconds = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=operations.MAX_DRAIN_S
    )


class ResourcesSchema(serializers.Serializer[Any]):
    cpu_cores = serializers.IntegerField()
    memory_gb = serializers.FloatField()
    storage_gb = serializers.FloatField()


class AbilitiesSchema(serializers.Serializer[Any]):
    gpu_enabled = serializers.IntegerField()
    mobile_devices = serializers.IntegerField()
    server_grade = serializers.IntegerField(help_text="8 cores and 16 GB at least")


class SummarySchema(serializers.Serializer[Any]):
    total_devices = serializers.IntegerField()
    online_devices = serializers.IntegerField()
    offline_devices = serializers.IntegerField()
    by_role = serializers.DictField(child=serializers.IntegerField())
    by_platform = serializers.DictField(child=serializers.IntegerField())
    by_status = serializers.DictField(child=serializers.IntegerField())
    resource_totals = ResourcesSchema()
    capabilities = AbilitiesSchema()


extend_schema_view(
    list=describe(
        "listDevices", DeviceSchema(many=True), summary="Devices, newest first", paged=True, parameters=PAGES
    ),
    retrieve=describe("getDevice", DeviceDetailSchema(), summary="Everything about a device", errors=(404,)),
    destroy=describe(
        "removeDevice", DeviceRemovalSchema(), summary="Remove a device for good", errors=(404,)
    ),
    summary=describe("getDeviceSummary", SummarySchema(), summary="Counts and resources of all devices"),
    status=describe("getDeviceStatus", DeviceStatusSchema(), summary="How a device is now", errors=(404,)),
    metrics=describe(
        "getDeviceMetrics",
        DeviceMetricsSchema(),
        summary="What a device measured in the last days, for charts",
        errors=(404,),
        parameters=[
            OpenApiParameter(
                "hours",
                {"type": "integer", "minimum": 1, "maximum": MAX_HOURS, "default": 24},
                description="How far back; kept for `retention.metrics_days`",
            )
        ],
    ),
    ping=describe("pingDevice", DevicePingSchema(), summary="A round trip to a device", errors=(404,)),
    cordon=describe(
        "cordonDevice",
        DeviceServiceSchema(),
        summary="Place nothing new on a device",
        errors=(404,),
        body=ReasonSchema,
    ),
    uncordon=describe(
        "uncordonDevice",
        DeviceServiceSchema(),
        summary="Back in service",
        errors=(404,),
        body=ReasonSchema,
    ),
    drain=describe(
        "drainDevice",
        DeviceServiceSchema(),
        summary="Let a device run empty",
        errors=(404,),
        body=DrainSchema,
    ),
)(DeviceViewSet)
