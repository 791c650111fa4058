"""A database of the first version, with rows in it, under today's program: nothing is lost, on either kind."""

import shutil
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import postgres
from tests.e2e.cluster import Cluster, Process, clean_environment

ROOT = Path(__file__).parents[2]
STARTERS = 4
# The tables as the first version made them, and a cluster that has worked: models as they were then.
FIRST_VERSION = """
import datetime, hashlib, uuid
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
first = [(app, "0001_initial") for app in ("clusterconfig", "devices", "tasks")]
for app, name in first:
    call_command("migrate", app, name, verbosity=0)
old = MigrationLoader(connection).project_state(first).apps
make = lambda model, **values: old.get_model(model).objects.create(**values)
now = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
device = make("devices.Device", id="attic", role="worker", platform="linux", slots=4, tags=["b", "a"],
    task_types=["echo"], cpu_count=4, memory_mb=8192, secret_digest="0" * 64, session=7, registered_at=now)
make("devices.Presence", device=device, last_seen=now, heartbeats=41, metrics={"cpu_percent": 1.5})
make("clusterconfig.ConfigSection", name="heartbeat", values={"interval": 17}, version=3, changed_at=now)
make("clusterconfig.ApiKey", name="old", prefix="rck_old", digest=hashlib.sha256(b"rck_old").hexdigest(),
    created_at=now)
profile = make("tasks.Profile", digest="0" * 64, task_type="echo", requirements={}, last_used_at=now)
common = dict(task_type="echo", priority="normal", profile=profile, timeout_s=300, max_retries=1,
    on_device_loss="requeue", created_at=now, rank=1, ready_at=now)
done, attempt = uuid.UUID(int=1), uuid.UUID(int=9)
task = make("tasks.Task", id=done, status="success", payload='{"x": 1.0e2}', device_id="attic", finished_at=now,
    attempt_no=1, result_attempt=attempt, execution_s=0.5, **common)
make("tasks.Attempt", id=attempt, task=task, round=1, no=1, device=device, session=7, state="ended",
    outcome="success", slots=1, lease_until=now, offered_at=now, accepted_at=now, ended_at=now,
    result='{"echo": {"x": 1.0e2}}')
make("tasks.Task", id=uuid.UUID(int=2), status="queued", payload='{"n": 2}', **common)
"""
# Waits for a word, so that all of them begin at once, then does what a server does at its start.
STARTER = """
import sys
import django
django.setup()
from django.conf import settings
from retire_cluster import startup
print("ready", flush=True)
sys.stdin.readline()
startup.prepare(settings.DATA_DIR, migrate=True)
"""


class Old:
    """A data directory and a database of the first version."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        self.url = url

    def fill(self) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", FIRST_VERSION],
            env=self.variables(self.directory),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def variables(self, directory: Path) -> dict[str, str]:
        own = {"RETIRE_CLUSTER_DATA_DIR": str(directory), "RETIRE_CLUSTER_DATABASE_URL": self.url}
        return {**clean_environment(), "DJANGO_SETTINGS_MODULE": "retire_cluster.settings", **own}

    def refused(self, command: str, *flags: str) -> str:
        """What a server says that does not start."""
        file = self.directory.parent / f"{uuid.uuid4().hex}.log"
        process = Process(file, command, "--port", "0", *flags, environment=self.variables(self.directory))
        assert process.wait() == 2, process.said()
        assert process.said().count("\n") == 1, process.said()
        return process.said()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        if self.url:
            with psycopg.connect(self.url) as connection:
                cursor: Any = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.directory / "retire-cluster.sqlite3")) as file, file:
            return file.execute(statement).fetchall()

    def migrations(self) -> list[tuple[Any, ...]]:
        """What the database says it has; doubles too."""
        return self.sql("SELECT app, name FROM django_migrations ORDER BY id")

    def copies(self) -> list[Path]:
        return sorted(self.directory.glob("before-*.sqlite3"))


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    """The database that each test gets a copy of."""
    directory = tmp_path_factory.mktemp("first")
    with ExitStack() as stack:
        url = stack.enter_context(postgres.server()) if request.param == "PostgreSQL" else ""
        made = Old(directory, url)
        made.fill()
        yield made


@pytest.fixture
def old(first: Old, tmp_path: Path) -> Old:
    directory = tmp_path / "server-data-1"
    shutil.copytree(first.directory, directory)
    if not first.url:
        return Old(directory)
    name = f"old_{uuid.uuid4().hex[:8]}"
    server = first.url.rpartition("/")[0]
    with psycopg.connect(f"{server}/template1", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE postgres".encode())
    return Old(directory, f"{server}/{name}")


def test_a_start_upgrades_and_every_row_is_what_it_was(old: Old, tmp_path: Path) -> None:
    said = old.refused("retire-cluster-api", "--no-migrate", "--cluster-port", "0")
    assert "--no-migrate forbids it" in said
    assert len([name for app, name in old.migrations() if app == "tasks"]) == 1

    cluster = Cluster(tmp_path)
    cluster.variables["RETIRE_CLUSTER_DATABASE_URL"] = old.url
    try:
        cluster.start("--no-local-node")
        done, waiting = (cluster.get(f"tasks/{uuid.UUID(int=number)}") for number in (1, 2))
        device = cluster.get("devices/attic")
        cluster.api.headers["X-API-Key"] = "rck_old"
        heartbeat = cluster.get("config/heartbeat")
    finally:
        cluster.stop()

    assert (done["status"], done["result"], done["assigned_device_id"]) == (
        "success",
        {"echo": {"x": 100.0}},
        "attic",
    )
    assert done["created_at"].startswith("2026-01-02T03:04:05.678")
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["success"]
    assert (waiting["status"], waiting["payload"]) == ("queued", {"n": 2})
    assert (device["tags"], device["total_heartbeats"], device["latest_metrics"]) == (
        ["b", "a"],
        41,
        {"cpu_percent": 1.5},
    )
    assert heartbeat["interval"] == 17
    _check_copy(old)


def _check_copy(old: Old) -> None:
    """On SQLite the file as it was lies beside the new one, for its owner only."""
    if old.url:
        assert old.copies() == []
        return
    (copy,) = old.copies()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as file:
        (migrations,) = file.execute("SELECT count(*) FROM django_migrations WHERE app = 'tasks'").fetchone()
        statuses = file.execute("SELECT status FROM tasks_task ORDER BY id").fetchall()
    assert (migrations, statuses) == (1, [("success",), ("queued",)])


def test_a_database_of_a_newer_program_is_refused_and_left_alone(old: Old) -> None:
    future = "('tasks', '0999_future', '2030-01-01 00:00:00+00')"
    old.sql(f"INSERT INTO django_migrations (app, name, applied) VALUES {future}")
    before = old.migrations()

    for command, flags in (("retire-cluster-api", ("--cluster-port", "0")), ("retire-cluster-main", ())):
        said = old.refused(command, *flags)
        assert said.startswith(
            f"{command}: the database is newer than this program (it has tasks.0999_future"
        )
        assert "install the newer version, or restore a backup" in said

    assert old.migrations() == before
    assert old.copies() == []


def test_of_servers_that_start_at_once_one_migrates_and_the_others_wait(old: Old, tmp_path: Path) -> None:
    # On PostgreSQL each has a data directory of its own, as on a host of its own.
    homes = [tmp_path / f"host-{number}" if old.url else old.directory for number in range(STARTERS)]
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER],
            env=old.variables(home),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for home in homes
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = [starter.communicate()[0] for starter in starters]

    assert [(starter.returncode, words) for starter, words in zip(starters, said, strict=True)] == [
        (0, "")
    ] * STARTERS
    migrations = old.migrations()
    assert len(migrations) == len(set(migrations))
    for app in ("clusterconfig", "devices", "tasks"):
        files = (ROOT / app / "migrations").glob("0*.py")
        assert {file.stem for file in files} == {name for owner, name in migrations if owner == app}
    assert sorted(old.sql("SELECT status FROM tasks_task")) == [("queued",), ("success",)]
    assert len(old.copies()) == (0 if old.url else 1)
