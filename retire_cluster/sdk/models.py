"""What the API answers, as frozen dataclasses; docs/reference/openapi.yaml says more.

Times are aware datetimes in UTC. States and other words are plain text: a newer server may have more of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from retire_cluster.protocol.states import RETRYABLE, TERMINAL
from retire_cluster.sdk.decoding import Model

# --- tasks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Requirements(Model):
    """What a device must have, and how the task runs there; None: no matter."""

    min_cpu_cores: int | None = None
    min_memory_gb: float | None = None
    min_storage_gb: float | None = None
    required_platform: str | None = None
    required_role: str | None = None
    required_tags: tuple[str, ...] = ()
    gpu_required: bool = False
    internet_required: bool = False
    timeout_seconds: int = 300
    max_retries: int = 0
    on_device_loss: str = "requeue"

    def to_json(self) -> dict[str, Any]:
        """The members as the API takes them."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "raw"}
        return {**found, "required_tags": list(self.required_tags)}


@dataclass(frozen=True)
class Submission:
    """A task to be run; what is None is left to the server."""

    task_type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: str | None = None
    requirements: Requirements | Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The request body."""
        wanted = self.requirements
        body: dict[str, Any] = {"task_type": self.task_type, "payload": dict(self.payload)}
        if self.priority is not None:
            body["priority"] = str(self.priority)
        if wanted is not None:
            body["requirements"] = wanted.to_json() if isinstance(wanted, Requirements) else dict(wanted)
        if self.metadata is not None:
            body["metadata"] = dict(self.metadata)
        return body


@dataclass(frozen=True, kw_only=True)
class Task(Model):
    """A task as it stood when asked. A fresh submission has the first five fields only."""

    task_id: str
    task_type: str
    status: str
    priority: str
    created_at: datetime
    assigned_device_id: str | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    execution_time_seconds: float | None = None
    retry_count: int = 0
    progress: float | None = None
    progress_message: str | None = None
    cancel_requested: bool = False
    queue_reason: str | None = None

    @property
    def is_terminal(self) -> bool:
        """It has ended: success, failed, cancelled or timeout."""
        return self.status in TERMINAL

    @property
    def can_retry(self) -> bool:
        return self.status in RETRYABLE


@dataclass(frozen=True, kw_only=True)
class Late(Model):
    """What a device reported after its attempt had been given up."""

    outcome: str
    reported_at: datetime
    ran_s: float
    error_message: str
    result: str


@dataclass(frozen=True, kw_only=True)
class Attempt(Model):
    """One try of a task on one device."""

    number: int
    round: int
    device_id: str
    state: str
    outcome: str | None
    reason: str | None
    confirmed: bool | None
    assigned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    execution_time_seconds: float | None
    error_message: str | None
    error_traceback: str | None
    late: Late | None


@dataclass(frozen=True, kw_only=True)
class TaskError(Model):
    """An attempt that went wrong."""

    attempt: int
    device_id: str
    outcome: str
    error_code: str | None
    error_message: str | None
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TaskDetail(Task):
    """A task with everything about it."""

    payload: Mapping[str, Any]
    requirements: Requirements
    metadata: Mapping[str, Any]
    error_history: tuple[TaskError, ...]
    attempts: tuple[Attempt, ...]
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Result(Model):
    """How a task ended."""

    task_id: str
    status: str
    result_data: Any
    execution_time_seconds: float
    worker_device_id: str | None
    started_at: datetime | None
    completed_at: datetime
    error_message: str | None
    error_traceback: str | None

    @property
    def ok(self) -> bool:
        """The task succeeded."""
        return self.status == "success"


@dataclass(frozen=True, kw_only=True)
class TaskResults(Model):
    """How many tasks ended; ids of those that have not, that were too much for one answer, and of no task."""

    results: tuple[Result, ...]
    open: tuple[str, ...]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OutputChunk(Model):
    """A piece of a task's output; `left_out` characters are missing before it."""

    offset: int
    attempt: int
    stream: str
    text: str
    at: datetime
    left_out: int


@dataclass(frozen=True, kw_only=True)
class TaskLogs(Model):
    """A part of a task's output; `is_complete`: the task has ended and nothing follows."""

    task_id: str
    status: str
    chunks: tuple[OutputChunk, ...]
    next_offset: int
    is_complete: bool


@dataclass(frozen=True, kw_only=True)
class Check(Model):
    check: str
    passed: bool
    wanted: str
    found: str


@dataclass(frozen=True, kw_only=True)
class JudgedDevice(Model):
    """A device and every check of a task against it. `available`: it could take the task now."""

    device_id: str
    fits: bool
    available: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation(Model):
    """Where a task can run and why not elsewhere; of a dry run, without id and status."""

    reason: str
    total_devices: int
    fitting_devices: int
    available_devices: int
    devices: tuple[JudgedDevice, ...]
    task_id: str | None = None
    status: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskTypes(Model):
    supported_types: tuple[str, ...]
    devices_by_type: Mapping[str, int]
    builtin_types: tuple[str, ...]
    custom_types: tuple[str, ...]
    total_count: int
    online_devices: int


@dataclass(frozen=True, kw_only=True)
class QueueStats(Model):
    total_tasks: int
    by_status: Mapping[str, int]
    by_priority: Mapping[str, int]
    by_device: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Performance(Model):
    """Of the last hour; rates in per cent, times in seconds."""

    success_rate: float
    average_execution_time: float
    tasks_per_hour: int
    device_utilization: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Load(Model):
    pending_tasks: int
    running_tasks: int
    capacity_utilization: float


@dataclass(frozen=True, kw_only=True)
class Statistics(Model):
    queue_stats: QueueStats
    performance_metrics: Performance
    current_load: Load


# --- devices ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Capabilities(Model):
    cpu_count: int | None
    memory_total_gb: float | None
    storage_total_gb: float | None
    has_gpu: bool | None


@dataclass(frozen=True, kw_only=True)
class Device(Model):
    """A machine of the cluster."""

    device_id: str
    role: str
    platform: str
    status: str
    status_reason: str
    ip_address: str | None
    last_heartbeat: datetime | None
    uptime: str | None
    capabilities: Capabilities
    tags: tuple[str, ...]
    slots: int
    running_tasks: int


@dataclass(frozen=True, kw_only=True)
class DeviceDetail(Device):
    """A device with everything about it."""

    registration_time: datetime
    total_heartbeats: int
    agent_version: str
    task_types: tuple[str, ...]
    full_capabilities: Mapping[str, Any]
    latest_metrics: Mapping[str, Any]
    metrics_history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class DeviceLoad(Model):
    slots: int
    running_tasks: int
    cpu_percent: float | None
    memory_percent: float | None
    battery_percent: float | None
    charging: bool | None
    temperature: float | None


@dataclass(frozen=True, kw_only=True)
class DeviceStatus(Model):
    device_id: str
    status: str
    is_online: bool
    status_reason: str
    last_heartbeat: datetime | None
    uptime: str | None
    response_time_ms: float | None
    current_load: DeviceLoad
    last_metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Spread(Model):
    min: float
    avg: float
    max: float


@dataclass(frozen=True, kw_only=True)
class MetricsSample(Model):
    """What a device measured within one interval."""

    timestamp: datetime
    heartbeats: int
    cpu_percent: Spread | None
    memory_percent: Spread | None
    battery_percent: Spread | None
    temperature: Spread | None
    running_tasks: Spread | None


@dataclass(frozen=True, kw_only=True)
class DeviceMetrics(Model):
    device_id: str
    since: datetime
    until: datetime
    interval_seconds: int
    samples: tuple[MetricsSample, ...]


@dataclass(frozen=True, kw_only=True)
class DevicePing(Model):
    """A round trip to the agent; `reason` says why there was none."""

    device_id: str
    ping_successful: bool
    response_time_ms: float | None
    ping_timestamp: datetime
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceRemoval(Model):
    device_id: str
    removed_at: datetime
    was_online: bool


@dataclass(frozen=True, kw_only=True)
class DeviceService(Model):
    """Whether a device takes work."""

    device_id: str
    status: str
    status_reason: str
    cordoned: bool
    draining: bool
    drain_deadline: datetime | None
    running_tasks: int


@dataclass(frozen=True, kw_only=True)
class Resources(Model):
    cpu_cores: int
    memory_gb: float
    storage_gb: float


@dataclass(frozen=True, kw_only=True)
class Abilities(Model):
    """How many devices have them; server grade: 8 cores and 16 GB."""

    gpu_enabled: int
    mobile_devices: int
    server_grade: int


@dataclass(frozen=True, kw_only=True)
class Summary(Model):
    total_devices: int
    online_devices: int
    offline_devices: int
    by_role: Mapping[str, int]
    by_platform: Mapping[str, int]
    by_status: Mapping[str, int]
    resource_totals: Resources
    capabilities: Abilities


# --- the cluster --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClusterStats(Model):
    total_devices: int
    online_devices: int
    offline_devices: int
    health_percentage: float
    total_resources: Resources
    by_role: Mapping[str, int]
    by_platform: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ServerInfo(Model):
    version: str
    uptime: str | None
    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class ClusterStatus(Model):
    cluster_stats: ClusterStats
    server_info: ServerInfo


@dataclass(frozen=True, kw_only=True)
class DeviceCounts(Model):
    total: int
    online: int
    by_role: Mapping[str, int]
    by_platform: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Usage(Model):
    total_cpu_cores: int
    total_memory_gb: float
    total_storage_gb: float
    cpu_percent: float | None
    memory_percent: float | None
    slots_total: int
    slots_busy: int


@dataclass(frozen=True, kw_only=True)
class TaskCounts(Model):
    queue_stats: QueueStats


@dataclass(frozen=True, kw_only=True)
class ClusterPerformance(Model):
    """Rates of tasks in per cent, of requests per second, times in seconds."""

    success_rate: float
    average_execution_time: float
    tasks_per_hour: int
    queue_wait_p50_seconds: float | None
    queue_wait_p95_seconds: float | None
    request_rate: float
    error_rate: float


@dataclass(frozen=True, kw_only=True)
class ClusterMetrics(Model):
    devices: DeviceCounts
    resources: Usage
    tasks: TaskCounts
    performance: ClusterPerformance


@dataclass(frozen=True, kw_only=True)
class ShownServer(Model):
    host: str
    port: int
    max_connections: int


@dataclass(frozen=True, kw_only=True)
class ShownHeartbeat(Model):
    """In seconds, and missed beats."""

    interval: int
    timeout: int
    max_missed: int


@dataclass(frozen=True, kw_only=True)
class Features(Model):
    task_scheduling: bool
    api_enabled: bool
    auth_required: bool
    websocket: bool
    tls: bool


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Model):
    server: ShownServer
    heartbeat: ShownHeartbeat
    features: Features


@dataclass(frozen=True, kw_only=True)
class Health(Model):
    """`status` and each component: healthy or unhealthy."""

    status: str
    timestamp: datetime
    components: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status == "healthy"


# --- administration -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """A section of the configuration; `etag` names the version that was read."""

    name: str
    values: Mapping[str, Any]
    etag: str


@dataclass(frozen=True, kw_only=True)
class Key(Model):
    """An API key, without its text."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    task_types: tuple[str, ...]
    rate_limits: str | None
    is_active: bool
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewKey(Key):
    """A key with its text, which is shown only now."""

    key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class JoinToken(Model):
    """A join token, without its text."""

    id: str
    name: str
    role: str | None
    tags: tuple[str, ...]
    task_types: tuple[str, ...]
    max_slots: int | None
    uses: int
    max_uses: int | None
    is_active: bool
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewJoinToken(JoinToken):
    """A token with its text, and the command to run on the device."""

    token: str = field(repr=False)
    join_command: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Model):
    """Who changed what."""

    id: int
    at: datetime
    actor: str | None
    address: str | None
    action: str
    target: str | None
    details: Mapping[str, Any]
    request_id: str | None


@dataclass(frozen=True, kw_only=True)
class Ticket(Model):
    """Opens one connection to `/ws`, until it expires."""

    ticket: str = field(repr=False)
    expires_at: datetime
