"""Backup and restore with the commands an operator types: the same rows again, on either kind of database."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import postgres

ROOT = Path(__file__).parents[2]
# Fills a database with a bit of everything that matters.
FILL = """
import json
from django.contrib.auth.models import Group, User
from django.utils import timezone
from clusterconfig import keys, services, tokens
from clusterconfig.audit import SYSTEM
from devices.models import Gateway
from tasks.models import OutputChunk, Task
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task
now = timezone.now()
services.incarnation()
keys.create("mine", ["read", "submit"], now=now, expires_at=None)
tokens.create("garage", now=now)
services.change("heartbeat", {"interval": 17}, actor=SYSTEM, now=now)
gateway = Gateway.objects.create(host="::", port=8080, tls=True, started_at=now, stopped_at=now)
measured = {"cpu_percent": 1.5, "battery_percent": None}
device = make_device("attic", gateway=gateway, tags=["b", "a"], metrics=measured)
for number in range(1200):
    make_task(metadata={"n": number, "words": "schön"})
done = make_finished_task(device, result='{"x": 1.0e2, "y": "z\\\\u2028"}')
make_attempt(make_task(status="running", device_id="attic"), device)
OutputChunk.objects.create(task=done, offset=0, attempt=1, number=0, stream="stdout", text="hi\\n", at=now)
user = User.objects.create_superuser("root", "", "secret")
user.groups.add(Group.objects.create(name="operators"))
"""


class Installation:
    """A data directory with a database, and its commands."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        self.variables = {"RETIRE_CLUSTER_DATA_DIR": str(directory), "RETIRE_CLUSTER_DATABASE_URL": url}

    def run(self, *words: str, ok: bool = True, said: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "retire_cluster.settings", **self.variables},
            cwd=ROOT,
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rows(self, file: Path) -> dict[str, list[Any]]:
        """All rows, as a new backup tells them."""
        self.run("backup", "--force", str(file))
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.startswith("rows/")]
            return {name: [json.loads(line) for line in archive.read(name).splitlines()] for name in names}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A cluster on SQLite with something in it."""
    found = Installation(tmp_path_factory.mktemp("source"))
    found.run("migrate")
    found.run("shell", "-c", FILL)
    return found


@pytest.fixture(scope="module")
def backup(source: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backups") / "cluster.zip"
    assert "1202 of them tasks" in source.run("backup", str(file))
    return file


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a PostgreSQL server, or nothing for SQLite."""
    if request.param == "SQLite":
        yield ""
        return
    with postgres.server() as url:
        yield url


@pytest.fixture
def target(tmp_path: Path, database: str) -> Installation:
    """An empty installation on either kind of database."""
    return _empty(tmp_path / "target", database)


def _empty(directory: Path, database: str) -> Installation:
    if not database:
        return Installation(directory)
    import psycopg

    name = f"restore_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return Installation(directory, database.rpartition("/")[0] + f"/{name}")


def _comparable(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Without what a restore changes on purpose."""
    for row in rows["rows/devices.device.jsonl"]:
        for name in ("online", "status_reason", "disconnected_at"):
            row.pop(name)
    for row in rows["rows/clusterconfig.clusteridentity.jsonl"]:
        row.pop("incarnation")
    return {name: sorted(found, key=json.dumps) for name, found in rows.items()}


def test_a_backup_is_for_its_owner_s_eyes_only_and_is_not_replaced_unasked(
    source: Installation, backup: Path
) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert "exists; choose another name, or --force" in source.run("backup", str(backup), ok=False)
    with zipfile.ZipFile(backup) as archive:
        assert "files/secret-key" in archive.namelist()


def test_a_restore_into_nothing_gives_the_same_rows(
    source: Installation, backup: Path, target: Installation, tmp_path: Path
) -> None:
    assert "1202 of them tasks" in target.run("restore", "--yes", str(backup))
    assert _comparable(target.rows(tmp_path / "b.zip")) == _comparable(source.rows(tmp_path / "a.zip"))
    secret = (source.directory / "secret-key").read_text()
    assert (target.directory / "secret-key").read_text() == secret
    assert "No migrations to apply" in target.run("migrate")
    target.run("shell", "-c", "from tests.factories import make_task; make_task()")  # ids go on


def test_a_restore_replaces_what_there_is_and_starts_a_new_life(
    source: Installation, backup: Path, target: Installation, tmp_path: Path
) -> None:
    target.run("migrate")
    target.run("shell", "-c", "from tests.factories import make_task; make_task(task_type='gone')")
    target.run("restore", str(backup), said="yes\n")
    rows = target.rows(tmp_path / "b.zip")
    assert not any(row["task_type"] == "gone" for row in rows["rows/tasks.task.jsonl"])
    (device,) = rows["rows/devices.device.jsonl"]
    assert (device["online"], device["status_reason"]) == (False, "the cluster was restored from a backup")
    (now,) = rows["rows/clusterconfig.clusteridentity.jsonl"]
    (then,) = source.rows(tmp_path / "a.zip")["rows/clusterconfig.clusteridentity.jsonl"]
    assert now["incarnation"] != then["incarnation"]
    attempts = rows["rows/tasks.attempt.jsonl"]
    assert [row["state"] for row in attempts].count("running") == 1, "agents may come back with it"


def test_what_a_restore_keeps_is_one_file_also_after_a_crash(backup: Path, tmp_path: Path) -> None:
    target = Installation(tmp_path / "target")
    assert "is kept in" not in target.run("restore", "--yes", str(backup)), "there was nothing to keep"
    crash = "import os; from tests.factories import make_task; make_task(task_type='last'); os._exit(0)"
    target.run("shell", "-c", crash)
    assert (target.directory / "retire-cluster.sqlite3-wal").stat().st_size > 0
    said = target.run("restore", "--yes", str(backup))
    (kept,) = target.directory.glob("before-restore-*")
    assert f"kept in {kept};" in said
    assert "now start the cluster again" in said
    with closing(sqlite3.connect(kept)) as database:
        assert database.execute("SELECT count(*) FROM tasks_task WHERE task_type = 'last'").fetchone() == (1,)
    assert not list(target.directory.glob("*-wal"))


def broken(backup: Path, to: Path, change: dict[str, Any]) -> Path:
    """The backup with another manifest."""
    with zipfile.ZipFile(backup) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps({**json.loads(content), **change}).encode()
            new.writestr(name, content)
    return to


def test_what_cannot_be_restored_and_who_does_not_say_yes_change_nothing(
    backup: Path, target: Installation, tmp_path: Path
) -> None:
    target.run("migrate")
    target.run("shell", "-c", "from tests.factories import make_task; make_task(task_type='kept')")
    (tmp_path / "nonsense").write_text("no zip")
    newer = {"version": "9.9", "migrations": [["tasks", "0999_future"]]}
    for file, words in (
        (broken(backup, tmp_path / "1", {"format": 99}), "format 99"),
        (broken(backup, tmp_path / "2", newer), "made by a newer version, 9.9"),
        (broken(backup, tmp_path / "3", {"migrations": []}), "damaged"),
        (tmp_path / "nonsense", "cannot read"),
        (tmp_path / "missing", "there is no file"),
    ):
        said = target.run("restore", "--yes", str(file), ok=False)
        assert words in said
        assert "Traceback" not in said
    for said, words in (("no\n", "nothing was changed"), ("", "Agree to it with --yes")):
        answer = target.run("restore", str(backup), said=said, ok=False)
        assert words in answer
        assert "Traceback" not in answer
    (task,) = target.rows(tmp_path / "after.zip")["rows/tasks.task.jsonl"]
    assert task["task_type"] == "kept"
