"""The services beside the gateway: database, disk, Redis, Celery's broker. Each is really asked."""

import time
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from devices.models import Device
from retire_cluster import disk
from retire_cluster.celery import app
from retire_cluster.credentials import mask
from retire_cluster.db import is_sqlite
from retire_cluster.ops.asking import FIRST_S, PATIENCE_S, Question
from retire_cluster.postgres import waits

Facts = dict[str, Any]  # `status`, `reason` where it is not healthy, and figures

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
MAX_REASON = 500  # characters
FULL_BELOW_MB = 1.0
LOW_BELOW_MB = 100.0
DATABASE_AWAY = (
    "the database does not answer; nothing can be submitted or read until it is back, agents keep working and keep "
    "their results; start it, or correct RETIRE_CLUSTER_DATABASE_URL (the log has its words)"
)
REDIS_AWAY = (
    "Redis does not answer ({}); tasks are taken and run, rate limits count per process meanwhile; start it, or "
    "correct RETIRE_CLUSTER_REDIS_URL"
)
BROKER_AWAY = (
    "Celery's broker does not answer ({}); tasks are taken and run, since gateways place and sweep by themselves; "
    "clean-up waits; start it, or correct RETIRE_CLUSTER_BROKER_URL"
)
LATE = "it takes too long"


def database() -> Facts:
    """Whether it answers, on a connection as any request's, and how fast."""
    started = time.perf_counter()
    facts = {"engine": connection.vendor}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except DatabaseError:
        return {"status": UNHEALTHY, **facts, "reason": DATABASE_AWAY}
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    return {"status": HEALTHY, **facts, "response_time_ms": milliseconds}


def data_disk() -> Facts:
    """Whether the disk of an SQLite database has room, and takes writes once one was refused."""
    free = disk.free_mb(settings.DATA_DIR)
    why = disk.trouble(settings.DATA_DIR) if disk.refused_lately() else ""
    if why or free < FULL_BELOW_MB:
        reason = (
            f"the disk is full or cannot be written to ({why or f'{free:g} MB free'}); nothing can be stored"
        )
        return {"status": UNHEALTHY, "free_mb": free, "reason": f"{reason}: {disk.ADVICE}"}
    if free < LOW_BELOW_MB:
        reason = f"{free:g} MB are free on the disk of the data directory; make room before it is full"
        return {"status": DEGRADED, "free_mb": free, "reason": reason}
    return {"status": HEALTHY, "free_mb": free}


def redis_itself() -> Facts:
    """Where rate limits are counted."""
    started = time.perf_counter()
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
    except redis.RedisError as error:
        return _away(REDIS_AWAY, error)
    return {"status": HEALTHY, "response_time_ms": round((time.perf_counter() - started) * 1000, 1)}


def broker() -> Facts:
    """Where Celery's messages are."""
    started = time.perf_counter()
    try:
        with app.connection_for_write(settings.BROKER_URL, connect_timeout=PATIENCE_S) as link:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=1)
    except Exception as error:  # whatever the transport's library raises
        return _away(BROKER_AWAY, error)
    return {"status": HEALTHY, "response_time_ms": round((time.perf_counter() - started) * 1000, 1)}


def _away(words: str, error: Exception | str) -> Facts:
    return {"status": DEGRADED, "reason": words.format(mask(str(error))[:MAX_REASON] or type(error).__name__)}


def devices_connected() -> Facts:
    """How many devices all gateways of the database have; nothing where it does not say, before it is migrated."""
    try:
        return {"devices_connected": Device.objects.filter(online=True).count()}
    except DatabaseError:
        return {}


def _database_apart() -> Facts:
    """In a thread of its own, whose connection has to be given back."""
    try:
        with waits.at_most(FIRST_S):
            facts = database()
            return facts | devices_connected() if facts["status"] == HEALTHY else facts
    finally:
        connection.close()


_database = Question("database", _database_apart)
_redis = Question("redis", redis_itself)
_broker = Question("broker", broker)


def put_all() -> None:
    """Have all of them asked, at the same time."""
    for question in _wanted():
        question.put()


def answers() -> dict[str, Facts]:
    """Facts by the service's name, of those this installation has; each comes within PATIENCE_S of `put_all`."""
    found: dict[str, Facts] = {}
    if is_sqlite():
        found["database"] = database()  # a file: it does not hang, and a thread would need a connection
        found["disk"] = data_disk()
    else:
        away = {"status": UNHEALTHY, "engine": connection.vendor, "reason": f"{LATE}: {DATABASE_AWAY}"}
        found["database"] = dict(_database.answer() or away)
    if settings.REDIS_URL:
        found["redis"] = _redis.answer() or _away(REDIS_AWAY, LATE)
    if settings.BROKER_URL:
        found["broker"] = _broker.answer() or _away(BROKER_AWAY, LATE)
    return found


def forget() -> None:
    """Ask all of them anew."""
    for question in (_database, _redis, _broker):
        question.forget()


def _wanted() -> list[Question[Facts]]:
    wanted = [] if is_sqlite() else [_database]
    wanted += [_redis] if settings.REDIS_URL else []
    return wanted + ([_broker] if settings.BROKER_URL else [])
