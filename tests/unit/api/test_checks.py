"""System checks: each finding, and silence without one."""

from pathlib import Path
from typing import Any

import pytest

from retire_cluster import checks


def _ids(messages: list[Any]) -> list[str]:
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


@pytest.mark.parametrize(
    ("engine", "found"), [("sqlite3", []), ("postgresql", []), ("mysql", ["retire_cluster.E001"])]
)
def test_only_sqlite_and_postgres_will_do(
    monkeypatch: pytest.MonkeyPatch, engine: str, found: list[str]
) -> None:
    monkeypatch.setattr(checks, "database_engine", lambda: engine)

    assert _ids(checks.check_database()) == found


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        ("https://ui.example", True),
        ("http://localhost:3000", True),
        ("ui.example", False),
        ("https://ui.example/", False),
        ("https://", False),
        ("*", False),
    ],
)
def test_origins_are_scheme_and_host(settings: Any, origin: str, good: bool) -> None:
    settings.ALLOWED_ORIGINS = [origin]

    assert _ids(checks.check_origins()) == ([] if good else ["retire_cluster.E002"])


def test_the_deepest_mount_decides_the_file_system(tmp_path: Path) -> None:
    inner = tmp_path / "with space"
    inner.mkdir()
    mounts = [("/", "ext4"), (str(tmp_path), "nfs4"), ("/nowhere", "cifs")]

    assert checks.file_system_of(inner, mounts) == "nfs4"
    assert checks.file_system_of(inner, [*mounts, (str(inner), "tmpfs")]) == "tmpfs"
    assert checks.file_system_of(inner, []) == ""


@pytest.mark.parametrize(("kind", "found"), [("ext4", []), ("nfs4", ["retire_cluster.W001"])])
def test_a_network_file_system_is_warned_of(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, found: list[str]
) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"server:/x {tmp_path} {kind} rw 0 0\n/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr(checks, "MOUNTS", table)
    monkeypatch.setattr(checks, "database_engine", lambda: "sqlite3")
    settings.DATA_DIR = tmp_path

    assert _ids(checks.check_file_system()) == found


def test_a_system_that_does_not_tell_its_mounts_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "MOUNTS", tmp_path / "missing")

    assert checks.check_file_system() == []


@pytest.mark.parametrize(("mode", "found"), [(0o700, []), (0o750, ["retire_cluster.W002"])])
def test_an_open_data_directory_is_warned_of(
    settings: Any, tmp_path: Path, mode: int, found: list[str]
) -> None:
    settings.DATA_DIR = tmp_path
    tmp_path.chmod(mode)

    assert _ids(checks.check_data_directory()) == found


@pytest.mark.parametrize(
    ("keys", "found"), [([], []), (["k" * 16], []), (["k" * 16, "short"], ["retire_cluster.W003"])]
)
def test_a_short_key_is_warned_of_without_showing_it(
    settings: Any, keys: list[str], found: list[str]
) -> None:
    settings.API_KEYS = keys

    messages = checks.check_keys()

    assert _ids(messages) == found
    assert "short" not in "".join(str(message) for message in messages)


@pytest.mark.parametrize(("names", "found"), [([], []), (["a.lan"], []), (["*"], ["retire_cluster.W004"])])
def test_every_host_allowed_is_warned_of(settings: Any, names: list[str], found: list[str]) -> None:
    settings.EXTRA_ALLOWED_HOSTS = names

    assert _ids(checks.check_hosts()) == found


# --- check --deploy -------------------------------------------------------------------------------------------

NOBODY = "127.0.0.1:1"  # a port nothing listens on


@pytest.mark.parametrize(
    ("engine", "secret", "found"),
    [("sqlite3", "", []), ("postgresql", "x" * 50, []), ("postgresql", "", ["retire_cluster.W005"])],
)
def test_a_secret_of_one_host_is_warned_of_where_several_share_a_database(
    monkeypatch: pytest.MonkeyPatch, engine: str, secret: str, found: list[str]
) -> None:
    monkeypatch.setattr(checks, "database_engine", lambda: engine)
    monkeypatch.setenv("RETIRE_CLUSTER_SECRET_KEY", secret)

    assert _ids(checks.check_shared_secret()) == found


@pytest.mark.parametrize(
    ("engine", "redis", "found"),
    [
        ("sqlite3", "", []),
        ("postgresql", "redis://there", []),
        ("postgresql", "", ["retire_cluster.W006"]),
    ],
)
def test_several_processes_without_redis_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, settings: Any, engine: str, redis: str, found: list[str]
) -> None:
    monkeypatch.setattr(checks, "database_engine", lambda: engine)
    settings.REDIS_URL = redis

    assert _ids(checks.check_redis_is_set()) == found


@pytest.mark.parametrize("url", [f"redis://:sesame@{NOBODY}/0", "nonsense://x"])
def test_a_redis_that_does_not_answer_is_warned_of_without_its_password(settings: Any, url: str) -> None:
    settings.REDIS_URL = url

    messages = checks.check_redis_answers()

    assert _ids(messages) == ["retire_cluster.W007"]
    assert "sesame" not in str(messages[0])
    settings.REDIS_URL = ""
    assert checks.check_redis_answers() == []


@pytest.mark.parametrize("url", [f"amqp://guest:sesame@{NOBODY}//", f"redis://:sesame@{NOBODY}/0"])
def test_a_broker_that_does_not_answer_is_warned_of_without_its_password(settings: Any, url: str) -> None:
    settings.REDIS_URL, settings.BROKER_URL = "", url

    messages = checks.check_broker_answers()

    assert _ids(messages) == ["retire_cluster.W008"]
    assert "sesame" not in str(messages[0])
    settings.REDIS_URL = url
    assert checks.check_broker_answers() == []


def test_a_broker_that_answers_is_not_warned_of(settings: Any) -> None:
    settings.REDIS_URL, settings.BROKER_URL = "", "memory://"

    assert checks.check_broker_answers() == []


@pytest.mark.parametrize(
    ("autovacuum", "timeout", "count"), [("on", "5s", 0), ("off", "5s", 1), ("on", "0", 1), ("off", "0", 2)]
)
def test_what_postgres_must_be_told(autovacuum: str, timeout: str, count: int) -> None:
    assert _ids(checks.judge_postgres(autovacuum, timeout)) == ["retire_cluster.W009"] * count
