"""What each page of the dashboard costs with 200 devices and 100,000 tasks.

    python benchmarks/pages.py                                  on SQLite, in a directory of its own
    python -m tests.postgres -- python benchmarks/pages.py      on a private PostgreSQL

`--profile PATH` tells where the time of one page goes. The figures: milliseconds with nothing remembered, the
median of REPEATS visits after it, statements of the first visit (a session costs two), KB of HTML and compressed.
"""

import argparse
import cProfile
import gzip
import json
import os
import pstats
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

DEVICES, TASKS, RETRIED = 200, 100_000, 20_000
QUEUED, RUNNING, LATELY, PROFILES = 1000, 200, 5000, 20
EVENTS, RECORDS, SAMPLES, PIECES = 50_000, 20_000, 600, 10_000
REPEATS = 15
BATCH = 2000
PAGES = {
    "/": "/",
    "/devices/": "/devices/",
    "/devices/?view=table": "/devices/?view=table",
    "/devices/ID/": "/devices/device-007/",
    "/tasks/": "/tasks/",
    "/tasks/?status=failed": "/tasks/?status=failed",
    "/tasks/?status=queued": "/tasks/?status=queued",
    "/tasks/ID/ queued": "/tasks/{queued}/",
    "/tasks/ID/ much output": "/tasks/{printed}/",
    "/submit/": "/submit/",
    "/add-device/": "/add-device/",
    "/activity/": "/activity/",
    "/settings/": "/settings/",
}


# --- the database ---------------------------------------------------------------------------------------------


def fill(now: datetime) -> None:
    """Everything a cluster of this size has after some weeks of work."""
    from django.contrib.auth.models import User
    from django.db import connection

    from clusterconfig.models import AuditEntry
    from devices.models import Device, Presence
    from retire_cluster.events.models import EventBatch
    from tasks.models import Attempt, OutputChunk, Profile, QueueSample, Task

    chance = random.Random(1)
    User.objects.create_user("ann", is_staff=True)
    devices = [_device(number, now, chance) for number in range(DEVICES)]
    Device.objects.bulk_create(devices)
    Presence.objects.bulk_create(_presence(device, now, chance) for device in devices)
    profiles = Profile.objects.bulk_create(_profiles(now))
    for some in _batches(_tasks(devices, profiles, now)):
        Task.objects.bulk_create([task for task, _ in some])
        Attempt.objects.bulk_create([attempt for _, attempts in some for attempt in attempts])
    for events in _batches(_events(now)):
        EventBatch.objects.bulk_create(events)
    AuditEntry.objects.bulk_create(
        (
            AuditEntry(
                at=now - timedelta(seconds=30 * (RECORDS - number)),
                actor="user:ann",
                address="192.0.2.7",
                action="device.cordon" if number % 5 == 0 else "task.submit",
                target=f"device-{number % DEVICES:03d}" if number % 5 == 0 else str(uuid.UUID(int=number)),
                details={"reason": "a new disk"},
            )
            for number in range(RECORDS)
        ),
        batch_size=BATCH,
    )
    minute = now.replace(second=0, microsecond=0)
    QueueSample.objects.bulk_create(
        QueueSample(at=minute - timedelta(minutes=number), waiting=1000 + number % 60, running=number % 200)
        for number in range(SAMPLES)
    )
    printed = Task.objects.filter(status="success").latest("created_at")
    OutputChunk.objects.bulk_create(
        (
            OutputChunk(
                task=printed,
                offset=60 * number,
                attempt=1,
                number=number,
                stream="stderr" if number % 9 == 0 else "stdout",
                text=f"{number:>8} files looked at, none of them changed since\n".rjust(60),
                at=now,
            )
            for number in range(PIECES)
        ),
        batch_size=BATCH,
    )
    with connection.cursor() as cursor:  # as autovacuum does; SQLite goes without, as it does in production
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")


def _device(number: int, now: datetime, chance: random.Random) -> Any:
    from devices.models import Device
    from retire_cluster import __version__

    memory = chance.choice([1024, 2048, 4096, 8192, 16_384]) - chance.randrange(200)
    types = ["echo", "sleep", "system_info", "command", "python_eval", "http_request"]
    away = number % 20 == 19
    return Device(
        id=f"device-{number:03d}",
        role=("worker", "worker", "compute", "mobile")[number % 4],
        platform=("linux", "linux", "windows", "android")[number % 4],
        tags=["shelf", f"room-{number % 6}", *(["disks"] if number % 3 == 0 else [])],
        task_types=types + (["ocr", "resize"] if number % 2 else []),
        slots=2 + number % 6,
        capabilities={
            "platform": "linux",
            "hostname": f"device-{number}",
            "python_version": "3.11.2",
            "os_version": "Debian GNU/Linux 12 (bookworm), Linux 6.1.0-18-amd64",
            "architecture": "x86_64",
            "cpu_count": 4,
            "memory_total_mb": memory,
            "storage_total_mb": 120_000 + number,
            "has_battery": number % 4 == 3,
            "cpu_model": "Intel(R) Core(TM) i5-6200U CPU @ 2.30GHz",
            "has_gpu": False,
            "gpu_names": [],
            "unknown": {},
        },
        cpu_count=2 + number % 7,
        memory_mb=memory,
        allocatable_memory_mb=max(0, memory - 400),
        storage_mb=100_000 + 37 * number,  # no two devices are alike
        has_gpu=number % 25 == 0,
        has_internet=number % 30 != 0,
        agent_version=__version__,
        ip_address=f"192.0.2.{number}",
        secret_digest="0" * 64,
        session=3,
        online=not away,
        status_reason="connection lost" if away else "",
        disconnected_at=now - timedelta(minutes=number) if away else None,
        cordoned=number % 40 == 7,
        cordon_reason="a new disk" if number % 40 == 7 else "",
        paused_reason="41.5 °C" if number % 50 == 11 else "",
        registered_at=now - timedelta(days=60, seconds=-number),
        connected_at=now - timedelta(hours=9),
    )


def _presence(device: Any, now: datetime, chance: random.Random) -> Any:
    from devices.models import Presence

    def metrics() -> dict[str, Any]:
        return {
            "cpu_percent": round(100 * chance.random(), 1),
            "memory_percent": round(100 * chance.random(), 1),
            "memory_available_mb": chance.randrange(8000),
            "storage_free_mb": chance.randrange(100_000),
            "battery_percent": 60.0 if device.platform == "android" else None,
            "charging": device.platform == "android",
            "temperature_c": round(30 + 14 * chance.random(), 1),
            "uptime_s": 80_000.0 + chance.randrange(1000),
            "load_1m": round(4 * chance.random(), 2),
        }

    history = [
        {"timestamp": (now - timedelta(seconds=10 * back)).isoformat(), **metrics()}
        for back in range(60, 0, -1)
    ]
    return Presence(device=device, last_seen=now, heartbeats=3000, metrics=metrics(), history=history)


def _profiles(now: datetime) -> list[Any]:
    from tasks.models import Profile
    from tasks.scheduling.profiles import ProfileKey, Requirements

    wanted = [
        Requirements(),
        Requirements(min_memory_gb=1),
        Requirements(min_cpu_cores=4, min_memory_gb=2),
        Requirements(required_tags=("disks",)),
        Requirements(required_platform="linux", required_tags=("room-2", "shelf")),
        Requirements(min_storage_gb=50, internet_required=True),
        Requirements(gpu_required=True, min_memory_gb=64),  # nowhere
        Requirements(required_role="mobile"),
        Requirements(required_tags=("attic",)),  # nowhere
        Requirements(min_cpu_cores=8),
    ]
    keys = [ProfileKey(task_type, item) for task_type in ("echo", "command") for item in wanted]
    return [
        Profile(digest=key.digest(), task_type=key.task_type, requirements=key.canonical(), last_used_at=now)
        for key in keys[:PROFILES]
    ]


def _tasks(devices: list[Any], profiles: list[Any], now: datetime) -> Iterator[tuple[Any, list[Any]]]:
    """The tasks, oldest first, each with its attempts: ended ones, then running, then queued ones."""
    for number in range(TASKS):
        left = TASKS - number  # 1 for the last one
        status = "success" if number % 50 else "failed"
        if left <= QUEUED + RUNNING:
            status = "queued" if left <= QUEUED else "running"
        ago = timedelta(seconds=left * 0.7 if left < LATELY else 3500 + 30.0 * (left - LATELY))
        yield _task(number, status, devices[number % DEVICES], profiles[number % PROFILES], now - ago, now)


def _task(
    number: int, status: str, device: Any, profile: Any, created: datetime, now: datetime
) -> tuple[Any, list[Any]]:
    from tasks.models import Attempt, Task

    ended, queued = status in ("success", "failed"), status == "queued"
    tries = 0 if queued else 2 if ended and number % 5 == 0 else 1
    over = min(now, created + timedelta(seconds=4)) if ended else None
    task = Task(
        id=uuid.UUID(int=int(created.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number),
        task_type=profile.task_type,
        priority=("normal", "high", "low", "urgent")[number % 17 % 4],
        payload=json.dumps({"command": f"convert scan-{number}.png page-{number}.pdf"}),
        requirements={**profile.requirements, "timeout_seconds": 300, "max_retries": 1},
        metadata={"batch": number // 500},
        profile=profile,
        timeout_s=300,
        max_retries=1,
        on_device_loss="requeue",
        created_at=created,
        status=status,
        attempt_no=tries,
        rank=number,
        ready_at=created,
        device_id="" if queued else device.pk,
        started_at=None if queued else created + timedelta(seconds=1),
        finished_at=over,
        execution_s=2.5 if ended else None,
    )
    attempts = []
    for no in range(1, tries + 1):
        last = no == tries
        attempts.append(
            Attempt(
                id=uuid.UUID(int=number << 8 | no),
                task=task,
                round=1,
                no=no,
                device=device,
                session=3,
                state="ended" if ended else "running",
                outcome=(status if last else "failed") if ended else "",
                slots=1,
                memory_mb=profile.requirements.get("min_memory_gb", 0) * 1024,
                lease_until=now + timedelta(minutes=3),
                offered_at=created + timedelta(seconds=no - 1),
                accepted_at=created + timedelta(seconds=no - 1),
                ended_at=over,
                ran_s=2.5 if ended else None,
                result='{"return_code": 0, "stdout": "done", "stderr": ""}' if ended else None,
                error_message="exit code 1: convert: no decode delegate" if status == "failed" else "",
            )
        )
    if ended:
        task.result_attempt = attempts[-1].pk
    return task, attempts


def _events(now: datetime) -> Iterator[Any]:
    from retire_cluster.events.models import EventBatch

    for number in range(EVENTS):
        about = {"task_id": str(uuid.UUID(int=number)), "device_id": f"device-{number % DEVICES:03d}"}
        event = [
            ["task.submitted", {"count": 1, "task_ids": [about["task_id"]], "task_types": ["echo"]}],
            ["task.assigned", {**about, "status": "assigned"}],
            ["task.running", {**about, "status": "running"}],
            ["task.output", {**about, "next_offset": number}],
            ["task.finished", {**about, "status": "success"}],
        ][number % 5]
        yield EventBatch(
            seq_from=number + 1,
            count=1,
            events=json.dumps([event], separators=(",", ":")),
            created_at=now - timedelta(seconds=(EVENTS - number) * 0.5),
        )


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    held: list[Any] = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH:
            yield held
            held = []
    yield held


# --- measuring ------------------------------------------------------------------------------------------------


def forget() -> None:
    """Nothing is remembered, as after a start."""
    from clusterconfig import services
    from tasks import history
    from tasks import statistics as figures

    for module in (figures, history, services):
        module.forget_cached()


def paths() -> dict[str, str]:
    from tasks.models import OutputChunk, Task

    known = {
        "queued": Task.objects.filter(status="queued").latest("created_at").pk,
        "printed": OutputChunk.objects.latest("id").task_id,
    }
    return {name: path.format(**known) for name, path in PAGES.items()}


def client() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    found = Client(SERVER_NAME="localhost", headers={"Accept": "text/html"})
    found.force_login(User.objects.get(username="ann"))
    return found


def timed(visitor: Any, path: str) -> tuple[float, bytes]:
    began = time.perf_counter()
    answer = visitor.get(path)
    took = 1000 * (time.perf_counter() - began)
    assert answer.status_code == 200, (path, answer.status_code)
    return took, answer.content


def measure() -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    visitor = client()
    print(f"{'page':26}{'first ms':>10}{'later ms':>10}{'SQL':>6}{'KB':>8}{'gzip KB':>9}")
    for name, path in paths().items():
        timed(visitor, path)  # what a process makes at first use
        forget()
        first, content = timed(visitor, path)
        later = statistics.median(timed(visitor, path)[0] for _ in range(REPEATS))
        forget()
        with CaptureQueriesContext(connection) as queries:
            timed(visitor, path)
        small = len(gzip.compress(content)) / 1000
        print(f"{name:26}{first:10.0f}{later:10.0f}{len(queries):6}{len(content) / 1000:8.1f}{small:9.1f}")


def slowest(path: str) -> None:
    """The statements of a page that took longest, and where the rest of its time goes."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    visitor, path = client(), paths().get(path, path)
    timed(visitor, path)
    forget()
    with CaptureQueriesContext(connection) as queries:
        timed(visitor, path)
    for query in sorted(queries, key=lambda item: -float(item["time"]))[:8]:
        print(query["time"], query["sql"][:400])
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(5):
        timed(visitor, path)
    profile.disable()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", metavar="PAGE", action="append", default=[])
    parser.add_argument(
        "--keep", metavar="DIRECTORY", help="use the database there; make it where there is none"
    )
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    with tempfile.TemporaryDirectory(prefix="retire-cluster-pages-") as directory:  # mode 700
        os.environ["RETIRE_CLUSTER_DATA_DIR"] = given.keep or directory
        os.environ["DJANGO_SETTINGS_MODULE"] = "retire_cluster.settings"
        os.environ["RETIRE_CLUSTER_RATE_LIMITS"] = "off"
        _run(given.profile)


def _run(profiled: list[str]) -> None:
    import logging

    import django
    from django.core.management import call_command

    django.setup()
    logging.disable(logging.WARNING)
    from devices.models import Device
    from retire_cluster import db

    call_command("migrate", verbosity=0)
    if not Device.objects.exists():
        began = time.monotonic()
        fill(db.now())
        print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
    for path in profiled:
        slowest(path)
    if not profiled:
        measure()


if __name__ == "__main__":
    main()
