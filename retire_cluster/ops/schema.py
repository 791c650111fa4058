"""What the cluster's and the configuration's endpoints take and answer, for the OpenAPI document."""

import dataclasses
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema_view
from rest_framework import serializers

from clusterconfig import registry
from devices.schema import ResourcesSchema
from retire_cluster.api.schema import describe
from retire_cluster.api.views import IndexView
from retire_cluster.ops.config_views import ConfigResetView, ConfigSectionView, ConfigView
from retire_cluster.ops.views import ClusterConfigView, ClusterMetricsView, ClusterStatusView
from tasks.schema import QueueStatsSchema


class ClusterStatsSchema(serializers.Serializer[Any]):
    total_devices = serializers.IntegerField()
    online_devices = serializers.IntegerField()
    offline_devices = serializers.IntegerField()
    health_percentage = serializers.FloatField(min_value=0, max_value=100)
    total_resources = ResourcesSchema()
    by_role = serializers.DictField(child=serializers.IntegerField())
    by_platform = serializers.DictField(child=serializers.IntegerField())


class ServerInfoSchema(serializers.Serializer[Any]):
    version = serializers.CharField()
    uptime = serializers.CharField(allow_null=True)
    host = serializers.CharField()
    port = serializers.IntegerField()


class ClusterStatusSchema(serializers.Serializer[Any]):
    cluster_stats = ClusterStatsSchema()
    server_info = ServerInfoSchema()


class DeviceCountsSchema(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    online = serializers.IntegerField()
    by_role = serializers.DictField(child=serializers.IntegerField())
    by_platform = serializers.DictField(child=serializers.IntegerField())


class UsageSchema(serializers.Serializer[Any]):
    total_cpu_cores = serializers.IntegerField()
    total_memory_gb = serializers.FloatField()
    total_storage_gb = serializers.FloatField()
    cpu_percent = serializers.FloatField(allow_null=True)
    memory_percent = serializers.FloatField(allow_null=True)
    slots_total = serializers.IntegerField()
    slots_busy = serializers.IntegerField()


class TaskCountsSchema(serializers.Serializer[Any]):
    queue_stats = QueueStatsSchema()


class ClusterPerformanceSchema(serializers.Serializer[Any]):
    success_rate = serializers.FloatField(min_value=0, max_value=100)
    average_execution_time = serializers.FloatField()
    tasks_per_hour = serializers.IntegerField()
    queue_wait_p50_seconds = serializers.FloatField(allow_null=True)
    queue_wait_p95_seconds = serializers.FloatField(allow_null=True)
    request_rate = serializers.FloatField()
    error_rate = serializers.FloatField()


class ClusterMetricsSchema(serializers.Serializer[Any]):
    devices = DeviceCountsSchema()
    resources = UsageSchema()
    tasks = TaskCountsSchema()
    performance = ClusterPerformanceSchema()


class ShownServerSchema(serializers.Serializer[Any]):
    host = serializers.CharField()
    port = serializers.IntegerField()
    max_connections = serializers.IntegerField()


class ShownHeartbeatSchema(serializers.Serializer[Any]):
    interval = serializers.IntegerField()
    timeout = serializers.IntegerField()
    max_missed = serializers.IntegerField()


class FeaturesSchema(serializers.Serializer[Any]):
    task_scheduling = serializers.BooleanField()
    api_enabled = serializers.BooleanField()
    auth_required = serializers.BooleanField()
    websocket = serializers.BooleanField()
    tls = serializers.BooleanField()


class ClusterConfigSchema(serializers.Serializer[Any]):
    server = ShownServerSchema()
    heartbeat = ShownHeartbeatSchema()
    features = FeaturesSchema()


def _section(name: str) -> serializers.Serializer[Any]:
    """A section of the registry, with its bounds; the server's with where it listens."""
    fields: dict[str, Any] = {
        item.name: serializers.IntegerField(
            min_value=item.metadata["low"],
            max_value=item.metadata["high"],
            required=False,
            help_text=f"{item.default} by default",
        )
        for item in dataclasses.fields(registry.SECTIONS[name])
    }
    if name == "server":
        fields["host"] = serializers.CharField(required=False, help_text="Read-only")
        fields["port"] = serializers.IntegerField(required=False, help_text="Read-only")
    found: serializers.Serializer[Any] = type(
        f"{name.title()}SectionSchema", (serializers.Serializer,), fields
    )()
    return found


WholeConfigSchema = type(
    "WholeConfigSchema", (serializers.Serializer,), {name: _section(name) for name in registry.SECTIONS}
)
# Which keys a section has is in the whole configuration; one path serves them all.
SectionSchema = serializers.DictField()
SECTION = OpenApiParameter(
    "section", str, OpenApiParameter.PATH, enum=list(registry.SECTIONS), description="A section"
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag as read; 412 when it has changed since"
)
VERSION = {"ETag": "The section's version"}


class LinksSchema(serializers.Serializer[Any]):
    links = serializers.DictField(child=serializers.CharField())


extend_schema_view(get=describe("getIndex", LinksSchema(), summary="Everything there is, as links"))(
    IndexView
)
extend_schema_view(
    get=describe("getClusterStatus", ClusterStatusSchema(), summary="Counts, resources, and the gateway")
)(ClusterStatusView)
extend_schema_view(
    get=describe("getClusterMetrics", ClusterMetricsSchema(), summary="How the cluster is used and performs")
)(ClusterMetricsView)
extend_schema_view(
    get=describe("getClusterConfig", ClusterConfigSchema(), summary="Settings and features, for any key")
)(ClusterConfigView)
extend_schema_view(get=describe("getConfig", WholeConfigSchema(), summary="The whole configuration"))(
    ConfigView
)
extend_schema_view(
    get=describe(
        "getConfigSection",
        SectionSchema,
        summary="One section",
        errors=(404,),
        parameters=[SECTION],
        headers=VERSION,
    ),
    put=describe(
        "changeConfigSection",
        SectionSchema,
        summary="Change a section, wholly or in part",
        errors=(404, 412),
        body=OpenApiTypes.OBJECT,
        parameters=[SECTION, IF_MATCH],
        headers=VERSION,
    ),
)(ConfigSectionView)
extend_schema_view(
    post=describe("resetConfig", WholeConfigSchema(), summary="Every setting back to its default")
)(ConfigResetView)
