"""What the checks look at. Everything has a default that nothing is wrong with; None means: cannot be told here."""

from dataclasses import dataclass

from retire_cluster.protocol.states import Platform


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway, and how far the way to it went."""

    address: str
    is_clear: bool = True
    stopped_at: str = ""  # the step that failed: name, port or gateway
    words: str = ""  # what that step, or else the last one, said
    families: frozenset[int] = frozenset()  # of its addresses: 4, 6
    clock_ahead_s: float | None = None  # of the gateway's clock before ours
    knows_device: bool | None = None  # by the secret it has
    clock_within_s: float = 0.0  # how far off that may be: half the round trip, and the answer's resolution


@dataclass(frozen=True, slots=True)
class Keeping:
    """The keeper that is installed, and what it says."""

    kind: str
    trouble: str | None = None
    lingers: bool | None = None  # systemd only


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One look at the device."""

    platform: Platform = Platform.LINUX
    python: tuple[int, int] = (3, 11)
    is_root: bool = False
    data_dir: str = ""
    unwritable: str | None = None  # why nothing can be written there
    free_mb: int | None = None
    open_files: int | None = None  # limits of this process; None: none
    processes: int | None = None
    address_space_mb: int | None = None
    settings_problem: str | None = None  # why the settings cannot be used
    has_joined: bool = True  # it has a secret
    was_member: bool = False  # it had one before
    gateways: tuple[Gateway, ...] = ()
    own_families: frozenset[int] = frozenset({4, 6})  # of the networks this device is on
    handlers_problem: str | None = None
    pause: str | None = None  # why no new task is taken now
    agent: int | None = None  # the process id of the agent that runs
    keepers: tuple[Keeping, ...] = ()
    keep_command: str = "retire-cluster-worker keep"
    termux: bool = False
    termux_api: bool = False  # its tools are installed
    wake_lock_tool: bool = False
    battery_exempt: bool | None = None
    android_sdk: int | None = None  # API level; 31 is Android 12
    phantom_killer: bool | None = None
