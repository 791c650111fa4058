"""System checks; ids retire_cluster.E… and W… are stable. Each says what to do."""

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError, connection
from kombu import Connection
from redis import Redis, RedisError

from retire_cluster import env

SHORTEST_KEY = 16  # characters of a key somebody chose; what is shorter can be guessed over the network
# File systems on which SQLite's locks or shared memory do not work.
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "sdcardfs"})
MOUNTS = Path("/proc/mounts")
PATIENCE_S = 3  # for a server that does not answer


def database_engine() -> str:
    """The kind of the configured database: sqlite3, postgresql, …"""
    engine = str(settings.DATABASES["default"]["ENGINE"]).rsplit(".", 1)[-1]
    return "postgresql" if engine == "postgres" else engine


@register()
def check_database(**_: Any) -> list[CheckMessage]:
    """E001: a database the claims and locks are not written for."""
    engine = database_engine()
    if engine in ("sqlite3", "postgresql"):
        return []
    return [
        Error(
            f"RETIRE_CLUSTER_DATABASE_URL names a {engine} database.",
            hint="Use sqlite:///… or postgres://…",
            id="retire_cluster.E001",
        )
    ]


@register()
def check_origins(**_: Any) -> list[CheckMessage]:
    """E002: an allowed origin that no browser will ever send."""
    return [
        Error(
            f"RETIRE_CLUSTER_ALLOWED_ORIGINS: {origin!r} is not an origin.",
            hint="Write scheme and host, without a path: https://ui.example",
            id="retire_cluster.E002",
        )
        for origin in settings.ALLOWED_ORIGINS
        if not _is_origin(origin)
    ]


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return (
        parts.scheme in ("http", "https")
        and f"{parts.scheme}://{parts.netloc}" == text
        and bool(parts.netloc)
    )


@register()
def check_file_system(**_: Any) -> list[CheckMessage]:
    """W001: SQLite on a file system where two processes do not see each other's locks."""
    if database_engine() != "sqlite3":
        return []
    kind = file_system_of(settings.DATA_DIR, _mounts())
    if kind not in NETWORK_FILE_SYSTEMS:
        return []
    return [
        checks.Warning(
            f"The data directory {settings.DATA_DIR} is on a network file system ({kind}).",
            hint="SQLite needs a local disk: set RETIRE_CLUSTER_DATA_DIR, or use Postgres.",
            id="retire_cluster.W001",
        )
    ]


def _mounts() -> list[tuple[str, str]]:
    """(mount point, type) of every mounted file system; empty where the system does not tell."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return []
    # Spaces in a path are written as \040.
    return [(fields[1].replace("\\040", " "), fields[2]) for line in lines if len(fields := line.split()) > 2]


def file_system_of(directory: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """The type of the file system that holds the directory; "" when unknown."""
    place = directory.resolve()
    holding = [(point, kind) for point, kind in mounts if place.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", ""))[1]


@register()
def check_data_directory(**_: Any) -> list[CheckMessage]:
    """W002: others can read where the secrets are."""
    directory: Path = settings.DATA_DIR
    if not directory.exists() or not stat.S_IMODE(directory.stat().st_mode) & 0o077:
        return []
    return [
        checks.Warning(
            f"The data directory {directory} is open to other users.",
            hint=f"chmod 700 {directory}",
            id="retire_cluster.W002",
        )
    ]


@register()
def check_keys(**_: Any) -> list[CheckMessage]:
    """W003: a key that can be guessed."""
    keys: Sequence[str] = settings.API_KEYS
    if all(len(key) >= SHORTEST_KEY for key in keys):
        return []
    return [
        checks.Warning(
            f"RETIRE_CLUSTER_API_KEY holds a key of fewer than {SHORTEST_KEY} characters.",
            hint="Leave it out: the first start makes a random key and keeps it in the data directory.",
            id="retire_cluster.W003",
        )
    ]


@register()
def check_hosts(**_: Any) -> list[CheckMessage]:
    """W004: the protection against DNS rebinding is switched off."""
    if "*" not in settings.EXTRA_ALLOWED_HOSTS:
        return []
    return [
        checks.Warning(
            "RETIRE_CLUSTER_ALLOWED_HOSTS allows every name: a web page elsewhere can reach this server.",
            hint="Name the hosts this server is reached by.",
            id="retire_cluster.W004",
        )
    ]


# --- of an installation that is to be used for real: `check --deploy` ------------------------------------------


@register(deploy=True)
def check_shared_secret(**_: Any) -> list[CheckMessage]:
    """W005: processes on several hosts that share a database would not know each other's sign-ins."""
    if database_engine() == "sqlite3" or env.text("SECRET_KEY", ""):
        return []
    return [
        checks.Warning(
            f"The secret key is kept in {settings.DATA_DIR}: another host that uses this database makes its own.",
            hint="Set RETIRE_CLUSTER_SECRET_KEY to the same text for every process.",
            id="retire_cluster.W005",
        )
    ]


@register(deploy=True)
def check_redis_is_set(**_: Any) -> list[CheckMessage]:
    """W006: several processes are meant, and nothing that they could count together in."""
    if database_engine() == "sqlite3" or settings.REDIS_URL:
        return []
    return [
        checks.Warning(
            "No Redis is configured: each process counts rate limits for itself.",
            hint="Set RETIRE_CLUSTER_REDIS_URL; without it, N processes let through up to N times the limit.",
            id="retire_cluster.W006",
        )
    ]


@register(deploy=True)
def check_redis_answers(**_: Any) -> list[CheckMessage]:
    """W007: Redis is configured and not there."""
    url: str = settings.REDIS_URL
    if not url:
        return []
    options = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
    try:
        with Redis.from_url(url, **options) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        return [_unreachable("Redis", "REDIS_URL", error, "retire_cluster.W007")]
    return []


@register(deploy=True)
def check_broker_answers(**_: Any) -> list[CheckMessage]:
    """W008: Celery's broker is configured and not there; where it is that Redis, W007 says it."""
    url: str = settings.BROKER_URL
    if not url or url == settings.REDIS_URL:
        return []
    try:
        with Connection(url, connect_timeout=PATIENCE_S) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=PATIENCE_S)
    except Exception as error:  # each transport has errors of its own
        return [_unreachable("Celery's broker", "BROKER_URL", error, "retire_cluster.W008")]
    return []


def _unreachable(what: str, variable: str, error: Exception, number: str) -> CheckMessage:
    return checks.Warning(
        f"{what} does not answer: {error}",
        hint=f"Look whether it runs, and whether {env.PREFIX}{variable} names it.",
        id=number,
    )


@register(deploy=True)
def check_postgres(**_: Any) -> list[CheckMessage]:
    """W009: what PostgreSQL must be told, and a pooler or an administrator may have taken back."""
    if database_engine() != "postgresql":
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('autovacuum'), current_setting('idle_in_transaction_session_timeout')"
            )
            return judge_postgres(*cursor.fetchone())
    except DatabaseError as error:
        return [_unreachable("PostgreSQL", "DATABASE_URL", error, "retire_cluster.W009")]


def judge_postgres(autovacuum: str, idle_timeout: str) -> list[CheckMessage]:
    """What is wrong with settings of the server, as a connection of ours sees them."""
    found = []
    if autovacuum != "on":
        words = "Autovacuum is off: tables that change all the time grow without end.", "autovacuum = on"
        found.append(words)
    if idle_timeout == "0":
        words = (
            "idle_in_transaction_session_timeout is 0: a process stopped in a transaction blocks the others.",
            "ALTER ROLE cluster SET idle_in_transaction_session_timeout = '5s'; poolers drop what we ask for",
        )
        found.append(words)
    return [checks.Warning(text, hint=hint, id="retire_cluster.W009") for text, hint in found]
