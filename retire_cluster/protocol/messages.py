"""The messages of the node protocol, version 1, one frozen dataclass each.

Ages and durations are seconds on the sender's monotonic clock: no wall clock crosses the wire. Everything an
agent sends is untrusted and bounded here; what a message does is in docs/reference/protocol.md.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from retire_cluster.protocol.schema import Length, OneLine, Pattern, Range
from retire_cluster.protocol.states import HeldState, Outcome, Platform, Role, Stream, Verdict

PROTOCOL_VERSION = 1
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_CHUNK = 8192  # characters of output in one piece
MAX_CHUNKS = 1_000_000  # pieces of output of one attempt
MAX_RESULT_BYTES = 3 * 1024 * 1024  # doubles at worst when quoted into a frame; a frame carries 8 MiB

DeviceId = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit",
    ),
]
Name = DeviceId
Identifier = Annotated[str, Pattern(r"[0-9a-f]{32}", "32 lower-case hexadecimal digits")]
Secret = Annotated[str, Length(1, 256)]
TaskType = Annotated[str, Length(1, 100), OneLine()]
Sentence = Annotated[str, Length(0, 500), OneLine()]
Label = Annotated[str, Length(0, 255), OneLine()]
Seconds = Annotated[float, Range(0, 10**9)]
Megabytes = Annotated[int, Range(0, 2**40)]
Percent = Annotated[float, Range(0, 100)]
LinkNumber = Annotated[int, Range(0, 2**50)]
Identifiers = Annotated[tuple[Identifier, ...], Length(0, 4096)]


class Message:
    """Base of all messages; `type` is the word on the wire."""

    type: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a device can do. None means unknown, and `unknown` says why, field by field."""

    platform: Platform
    hostname: Label = ""
    cpu_count: Annotated[int, Range(1, 65536)] | None = None
    memory_total_mb: Megabytes | None = None
    storage_total_mb: Megabytes | None = None
    has_gpu: bool | None = None
    gpu_names: Annotated[tuple[Label, ...], Length(0, 16)] = ()
    has_internet: bool | None = None
    has_battery: bool | None = None
    python_version: Label = ""
    os_version: Label = ""
    architecture: Label = ""
    cpu_model: Label = ""
    unknown: Annotated[dict[str, Sentence], Length(0, 32)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a device is doing now. None means unknown."""

    cpu_percent: Percent | None = None
    memory_percent: Percent | None = None
    memory_available_mb: Megabytes | None = None
    storage_free_mb: Megabytes | None = None
    load_1m: Annotated[float, Range(0, 100_000)] | None = None
    uptime_s: Seconds | None = None
    battery_percent: Percent | None = None
    charging: bool | None = None
    temperature_c: Annotated[float, Range(-100, 300)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One attempt the agent holds; `age_s` since it accepted it."""

    attempt: Identifier
    state: HeldState
    age_s: Seconds = 0.0


HeldList = Annotated[tuple[Held, ...], Length(0, 4096)]


# --- agent to gateway ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Message):
    """First message of every connection: who I am, the proof, what I can do, what I hold.

    `secret` proves a known device; `join_token` admits a new one; `rejoin` allows an operator-removed id back.
    """

    type: ClassVar[str] = "register"
    protocol: Annotated[int, Range(0, 10_000)]
    device_id: DeviceId
    run_id: Identifier
    agent_version: Label
    capabilities: Capabilities
    secret: Secret | None = None
    join_token: Secret | None = None
    rejoin: bool = False
    role: Role = Role.WORKER
    tags: Annotated[tuple[Name, ...], Length(0, 32)] = ()
    task_types: Annotated[tuple[TaskType, ...], Length(0, 200)] = ()
    slots: Annotated[int, Range(1, 4096)] = 1
    max_memory_mb: Megabytes | None = None
    metrics: Metrics = Metrics()
    held: HeldList = ()
    paused_reason: Sentence | None = None  # as in a heartbeat: no offer may come before the first one
    link_no: LinkNumber | None = (
        None  # the newest one stored, 0 before the first; None: an agent without them
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStored(Message):
    """The link number of the welcome is on the agent's disk."""

    type: ClassVar[str] = "link_stored"
    link_no: LinkNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    type: ClassVar[str] = "heartbeat"
    metrics: Metrics = Metrics()
    held: HeldList = ()
    paused_reason: Sentence | None = None  # set while the device takes no new task by its own policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Message):
    """The attempts run now, or wait for `go`."""

    type: ClassVar[str] = "accepted"
    attempts: Identifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Message):
    type: ClassVar[str] = "declined"
    attempt: Identifier
    reason: Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Message):
    """How an attempt ended. Sent again after every reconnect until acknowledged."""

    type: ClassVar[str] = "result"
    attempt: Identifier
    outcome: Literal[Outcome.SUCCESS, Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED]
    ran_s: Seconds = 0.0
    # Text, checked by the gateway: a result that is no JSON fails its task, not the frame it came in.
    result_json: Annotated[str, Length(0, MAX_RESULT_BYTES)] | None = None
    error_message: Annotated[str, Length(0, 4096)] | None = None
    error_traceback: Annotated[str, Length(0, 16_384)] | None = None
    survivors: Annotated[tuple[Label, ...], Length(0, 32)] = ()  # processes a cancel could not end


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Message):
    """How far a running attempt has come, by its own account."""

    type: ClassVar[str] = "progress"
    attempt: Identifier
    percent: Percent | None = None
    message: Sentence = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Message):
    """A piece of what a running attempt prints. Kept and sent again by the agent until acknowledged."""

    type: ClassVar[str] = "output"
    attempt: Identifier
    number: Annotated[int, Range(0, MAX_CHUNKS)]  # counts the attempt's pieces, from 0
    stream: Stream
    text: Annotated[str, Length(0, MAX_CHUNK)]
    left_out: Annotated[int, Range(0, 2**53)] = 0  # bytes before this piece that were dropped on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Message):
    """Answer to `stop`: nothing of these attempts runs any more."""

    type: ClassVar[str] = "stopped"
    attempts: Identifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Message):
    """The device leaves the cluster for good: its secret is void, its work goes to others."""

    type: ClassVar[str] = "leave"


# --- gateway to agent ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Heartbeat settings in force: seconds between heartbeats, silence after which a device is offline."""

    interval_s: Annotated[float, Range(0.05, 3600)]
    silence_s: Annotated[float, Range(0.05, 36_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """The connection is accepted. `secret` is given once, at joining; the agent stores it before anything else."""

    type: ClassVar[str] = "welcome"
    protocol: int
    device_id: DeviceId
    session: int
    server_version: Label
    incarnation: Identifier
    pulse: Pulse
    config_version: int = 0
    secret: Secret | None = None
    link_no: LinkNumber | None = None  # stored, then confirmed by `link_stored`


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(Message):
    """Run this. With `wait_for_go` journal and accept it, but start nothing before `go` (at most once)."""

    type: ClassVar[str] = "assign"
    attempt: Identifier
    task: Identifier
    task_type: TaskType
    payload_json: str
    timeout_s: Seconds
    wait_for_go: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Go(Message):
    type: ClassVar[str] = "go"
    attempts: Identifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Message):
    """End the attempt's work, then report outcome `cancelled` (or `timeout`, when that is the reason)."""

    type: ClassVar[str] = "cancel"
    attempt: Identifier
    reason: Literal["user", "timeout"] = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Message):
    """The attempts are over on the server: end their work, report nothing but `stopped`."""

    type: ClassVar[str] = "stop"
    attempts: Identifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultAck(Message):
    type: ClassVar[str] = "result_ack"
    attempt: Identifier
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAck(Message):
    """Pieces of output below `number` are stored, or not wanted: the agent may drop them."""

    type: ClassVar[str] = "output_ack"
    attempt: Identifier
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Message):
    """Settings changed."""

    type: ClassVar[str] = "config"
    version: int
    pulse: Pulse


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAck(Message):
    """Every heartbeat is answered, so that a half-open connection is noticed on both sides."""

    type: ClassVar[str] = "heartbeat_ack"


# --- both ways ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    type: ClassVar[str] = "ping"
    nonce: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Message):
    type: ClassVar[str] = "pong"
    nonce: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """The peer sent something unusable; the connection stays open unless it repeats."""

    type: ClassVar[str] = "error"
    reason: Sentence
    field: Label = ""


GOODBYE_CODES = (
    "stopping",  # the sender shuts down; an agent's attempts are handed back
    "bad_token",
    "bad_secret",
    "unknown_device",  # forgotten: may join again by token
    "device_id_taken",
    "revoked",  # removed by an operator: stop tasks, wipe the credential, do not come back unasked
    "full",  # max_connections reached
    "too_old",  # protocol versions do not overlap
    "replaced",  # another connection of the same device took over
    "left",  # the device left for good, as it asked
    "cloned",  # the agent's data is a copy, or was restored from a backup
    "protocol_error",
    "unavailable",  # the gateway cannot reach its database
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye(Message):
    """Last message before closing: why, as a code of GOODBYE_CODES, and in words that say what to do next."""

    type: ClassVar[str] = "goodbye"
    code: Literal[
        "stopping",
        "bad_token",
        "bad_secret",
        "unknown_device",
        "device_id_taken",
        "revoked",
        "full",
        "too_old",
        "replaced",
        "left",
        "cloned",
        "protocol_error",
        "unavailable",
    ]
    reason: Sentence = ""


FROM_AGENT: tuple[type[Message], ...] = (
    Register,
    LinkStored,
    Heartbeat,
    Accepted,
    Declined,
    Result,
    Progress,
    Output,
    Stopped,
    Leave,
    Ping,
    Pong,
    Error,
    Goodbye,
)
FROM_GATEWAY: tuple[type[Message], ...] = (
    Welcome,
    Assign,
    Go,
    Cancel,
    Stop,
    ResultAck,
    OutputAck,
    Config,
    HeartbeatAck,
    Ping,
    Pong,
    Error,
    Goodbye,
)
