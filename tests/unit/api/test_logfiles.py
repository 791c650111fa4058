"""Log files: they rotate, several processes share one, and nothing that goes wrong with them stops the work."""

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retire_cluster import logfiles, logs
from retire_cluster.env import EnvError
from retire_cluster.logfiles import SharedFile

PROCESSES, LINES = 4, 1500
# Writes lines that tell who wrote them, either as one of several programs or from children that inherit the file.
WRITER = """
import logging, os, sys
from retire_cluster.logfiles import SharedFile
path, way, processes, lines = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
handler = SharedFile(path, 20_000, 100)
handler.setFormatter(logging.Formatter("%(message)s"))
log = logging.Logger("test")
log.addHandler(handler)
def write(who):
    for number in range(lines):
        log.info("<%s %s %s>", who, number, "x" * (number % 97))
if way == "alone":
    sys.stdin.readline()
    write(os.getpid())
    sys.exit()
log.info("<parent 0 >")
children = []
for child in range(processes):
    pid = os.fork()
    if pid == 0:
        write(child)
        os._exit(0)
    children.append(pid)
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""

# Exits with 1 when a child took the lock its parent holds on the file it inherited.
HEIR = """
import fcntl, logging, os, sys
from retire_cluster.logfiles import SharedFile
handler = SharedFile(sys.argv[1], 100, 3)
log = logging.Logger("test")
log.addHandler(handler)
log.info("x" * 90)
fcntl.flock(handler._descriptor, fcntl.LOCK_EX)
if os.fork() == 0:
    log.info("y" * 90)
    os._exit(os.path.exists(sys.argv[1] + ".1"))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
HOLDER = """
import fcntl, sys
with open(sys.argv[1]) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
def made() -> Iterator[list[SharedFile]]:
    """The handlers of a test; closed at its end."""
    handlers: list[SharedFile] = []
    yield handlers
    for handler in handlers:
        handler.close()


def logger(made: list[SharedFile], path: Path, limit: int = 100, files: int = 3) -> logging.Logger:
    handler = SharedFile(path, limit, files)
    handler.setFormatter(logging.Formatter("%(message)s"))
    made.append(handler)
    log = logging.getLogger(f"tests.{path}")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    return log


def text_of(directory: Path) -> str:
    return "".join(file.read_text() for file in sorted(directory.iterdir()))


@pytest.mark.parametrize("windows", [False, True])
def test_a_full_file_is_renamed_and_the_oldest_goes(
    path: Path, made: list[SharedFile], windows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfiles, "WINDOWS", windows)
    log = logger(made, path)
    for number in range(10):
        log.info("%s%s", number, "x" * 48)  # 50 bytes with its end: two fit

    assert sorted(file.name for file in path.parent.iterdir()) == [
        "server.log",
        "server.log.1",
        "server.log.2",
    ]
    kept = [
        file.read_text()[0] for file in (path.with_name("server.log.2"), path.with_name("server.log.1"), path)
    ]
    assert kept == ["4", "6", "8"]
    assert max(file.stat().st_size for file in path.parent.iterdir()) <= 100


def test_only_the_owner_reads_it(path: Path, made: list[SharedFile]) -> None:
    log = logger(made, path)
    for _ in range(5):
        log.info("x" * 60)

    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_of_one_file_nothing_old_is_kept(path: Path, made: list[SharedFile]) -> None:
    log = logger(made, path, files=1)
    for number in range(5):
        log.info("%s%s", number, "x" * 60)

    assert text_of(path.parent) == f"4{'x' * 60}\n"


def test_without_a_limit_it_grows(path: Path, made: list[SharedFile]) -> None:
    log = logger(made, path, limit=0)
    for _ in range(50):
        log.info("x" * 60)

    assert path.stat().st_size == 50 * 61
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("way", ["alone", "forked"])
def test_processes_that_share_a_file_lose_and_tear_no_line(path: Path, way: str) -> None:
    command = [sys.executable, "-c", WRITER, str(path), way, str(PROCESSES), str(LINES)]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES if way == "alone" else 1)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
        assert writer.returncode == 0

    lines = text_of(path.parent).splitlines()
    assert all(line.startswith("<") and line.endswith(">") for line in lines)
    told = [tuple(line[1:-1].split()[:2]) for line in lines if "parent" not in line]
    assert len(told) == len(set(told)) == PROCESSES * LINES
    # How often says nothing: nobody waits for the one that rotates, so a file grows on while that one has no turn.
    assert len(list(path.parent.iterdir())) > 1


def test_a_rename_from_outside_is_noticed(path: Path, made: list[SharedFile]) -> None:
    log = logger(made, path, limit=0)
    log.info("before")
    path.rename(path.with_name("server.log-20260301"))
    log.info("after")

    assert path.read_text() == "after\n"
    path.unlink()
    log.info("again")
    assert path.read_text() == "again\n"


def test_while_another_process_rotates_nobody_waits(path: Path, made: list[SharedFile]) -> None:
    log = logger(made, path)
    log.info("x" * 90)
    # A process that was stopped while it held the lock.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    log.info("y" * 90)
    assert path.read_text() == f"{'x' * 90}\n{'y' * 90}\n"

    holder.communicate()
    log.info("z" * 90)
    assert path.read_text() == "z" * 90 + "\n"


def test_a_forked_process_respects_its_parent_s_lock(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", HEIR, str(path)], check=False).returncode == 0
    assert path.read_text() == f"{'x' * 90}\n{'y' * 90}\n"


def test_a_full_disk_is_said_once_and_the_lines_go_to_standard_error(
    path: Path, made: list[SharedFile], capsys: pytest.CaptureFixture[str]
) -> None:
    path.symlink_to("/dev/full")
    log = logger(made, path)
    for number in range(3):
        log.info("line %s", number)

    said = capsys.readouterr().err
    complaint = f"cannot write the log file {path}: No space left on device; the work goes on\n"
    assert said == f"{complaint}line 0\nline 1\nline 2\n"

    path.unlink()
    log.info("there is room again")
    assert (path.read_text(), capsys.readouterr().err) == ("there is room again\n", "")


def test_after_half_a_line_the_next_one_begins_anew(
    path: Path, made: list[SharedFile], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logger(made, path)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:4]))
        log.info("half a line")
    log.info("whole")

    assert path.read_text() == "half\nwhole\n"
    assert "No space left on device" in capsys.readouterr().err


def test_a_directory_that_comes_later_is_used_then(
    path: Path, made: list[SharedFile], capsys: pytest.CaptureFixture[str]
) -> None:
    later = path.parent / "mount" / "server.log"
    log = logger(made, later)
    log.info("one")
    assert capsys.readouterr().err.startswith(f"cannot write the log file {later}: No such file or directory")

    later.parent.mkdir()
    log.info("two")
    assert later.read_text() == "two\n"

    later.unlink()
    later.parent.rmdir()
    log.info("three")
    assert "No such file" in capsys.readouterr().err, "said again: it had worked meanwhile"


def test_a_file_that_cannot_be_renamed_grows_on(
    path: Path, made: list[SharedFile], capsys: pytest.CaptureFixture[str]
) -> None:
    (path.with_name("server.log.1") / "in the way").mkdir(parents=True)
    log = logger(made, path, files=2)
    for _ in range(4):
        log.info("x" * 60)

    assert path.read_text() == ("x" * 60 + "\n") * 4
    assert capsys.readouterr().err.count("cannot rotate the log file") == 1


def test_nobody_to_complain_to_is_no_reason_to_stop(
    path: Path, made: list[SharedFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logger(made, path.parent / "nowhere" / "server.log")
    monkeypatch.setattr(sys, "stderr", None)

    log.info("unheard")

    assert not path.exists()


def test_the_variables_say_how_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logs.file_options("") is None
    default = {"path": "x", "limit_bytes": 10 * 1024 * 1024, "files": 5}
    assert logs.file_options("x") == default
    monkeypatch.setenv("RETIRE_CLUSTER_LOG_FILE_MB", "0")
    monkeypatch.setenv("RETIRE_CLUSTER_LOG_FILES", "2")
    assert logs.file_options("x") == {"path": "x", "limit_bytes": 0, "files": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [("LOG_FILE_MB", "-1"), ("LOG_FILE_MB", "ten"), ("LOG_FILES", "0"), ("LOG_FILES", "101")],
)
def test_a_bad_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"RETIRE_CLUSTER_{name}", value)

    with pytest.raises(EnvError, match=f"RETIRE_CLUSTER_{name}: must be .*{value}"):
        logs.file_options("")


@pytest.mark.parametrize(
    ("terminal", "file", "used"),
    [
        (True, None, ["stderr"]),
        (False, None, ["stderr"]),
        (False, {"path": "x"}, ["file"]),
        (True, {"path": "x"}, ["stderr", "file"]),
    ],
)
def test_lines_go_to_the_file_and_to_a_person(
    terminal: bool, file: dict[str, str] | None, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    found = logs.configuration(debug=False, file=file)

    assert found["root"]["handlers"] == used
