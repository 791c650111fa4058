"""`command` in real processes: what it returns, and that its whole tree goes with it."""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.protocol.messages import Result
from retire_cluster.protocol.states import Outcome
from tests.integration.agent.fake_gateway import until
from tests.integration.agent.workplace import Workplace, at, is_alive, outcome


def of(directory: Path, line: str | list[str], timeout_s: float = 30.0, **payload: Any) -> Result:
    return outcome(directory, "command", {"command": line, **payload}, timeout_s)


def told(result: Result) -> Any:
    return json.loads(result.result_json or "null")


def test_a_line_for_the_shell(tmp_path: Path) -> None:
    result = of(tmp_path, "echo out | tr a-z A-Z; echo err >&2")
    assert result.outcome is Outcome.SUCCESS
    assert told(result) == {
        "return_code": 0,
        "stdout": "OUT\n",
        "stderr": "err\n",
        "command": "echo out | tr a-z A-Z; echo err >&2",
        "truncated": False,
    }


def test_a_list_is_a_program_and_its_arguments(tmp_path: Path) -> None:
    result = of(tmp_path, ["printf", "%s|", "a b", "$HOME", ""])
    assert told(result)["stdout"] == "a b|$HOME||"


def test_a_code_other_than_0_fails_and_keeps_the_output(tmp_path: Path) -> None:
    result = of(tmp_path, "echo half; echo 'no such thing' >&2; exit 3")
    assert result.outcome is Outcome.FAILED
    assert result.error_message == "the command ended with code 3: no such thing"
    assert (told(result)["return_code"], told(result)["stdout"]) == (3, "half\n")


def test_unchecked_any_code_is_a_success(tmp_path: Path) -> None:
    result = of(tmp_path, "exit 3", check=False)
    assert result.outcome is Outcome.SUCCESS
    assert told(result)["return_code"] == 3


def test_a_signal_is_named(tmp_path: Path) -> None:
    result = of(tmp_path, "kill -SEGV $$")
    assert "SIGSEGV" in (result.error_message or "")
    assert told(result)["return_code"] == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"command": ["/no/such/program"]}, "cannot run '/no/such/program' on this device: No such file"),
        ({"command": ["/etc/passwd"]}, "Permission denied"),
        ({"command": "true", "cwd": "/no/such/place"}, "payload.cwd: '/no/such/place' is no directory"),
        ({"command": ""}, "payload.command: must not be empty"),
        ({"command": 7}, "payload.command: must be a string"),
        ({"command": ["a", 1]}, "payload.command: must be a string"),
        ({"command": "true", "env": {"A": 1}}, "payload.env: must be an object of strings"),
        ({"command": "true", "env": {"A=B": "1"}}, "payload.env: 'A=B' cannot be the name"),
        ({"command": "true", "timeout": 0}, "payload.timeout: must be a number more than 0"),
        ({"command": "true", "check": "no"}, "payload.check: must be true or false"),
    ],
)
def test_what_cannot_run_is_told_in_words(tmp_path: Path, payload: Any, words: str) -> None:
    result = outcome(tmp_path, "command", payload)
    assert result.outcome is Outcome.FAILED
    assert words in (result.error_message or "")
    assert result.error_traceback is None


def test_it_sees_its_own_directory_and_little_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    result = of(tmp_path, "pwd; echo $TMPDIR; touch here; env", env={"GIVEN": "x y"})
    place, temporary, *variables = told(result)["stdout"].splitlines()
    assert place == temporary
    assert place.startswith(str(tmp_path))
    assert "GIVEN=x y" in variables
    assert "hunter2" not in told(result)["stdout"]
    assert not Path(place).exists()


def test_a_directory_can_be_named(tmp_path: Path) -> None:
    assert told(of(tmp_path, "pwd", cwd="/usr"))["stdout"] == "/usr\n"


def test_much_output_keeps_head_and_tail(tmp_path: Path) -> None:
    result = told(of(tmp_path, "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last"))
    assert result["truncated"] is True
    assert result["stdout"].startswith("first\n")
    assert result["stdout"].endswith("\nlast\n")
    assert 1024 * 1024 < len(result["stdout"]) < 1024 * 1024 + 100
    assert "bytes left out" in result["stdout"]


def test_binary_output_fits_too(tmp_path: Path) -> None:
    result = told(of(tmp_path, "head -c 3000000 /dev/urandom; head -c 3000000 /dev/zero >&2"))
    assert result["truncated"] is True
    assert result["return_code"] == 0


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for detach in (lambda: None, os.setsid):
    if os.fork() == 0:
        detach()
        if os.fork() == 0:
            break
        os._exit(0)
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
while True:
    time.sleep(60)
"""


async def _stubborn(place: Workplace, pids: Path) -> tuple[str, list[int]]:
    """Three processes that ignore TERM: a child, an orphan, an orphan in a session of its own."""
    attempt = place.start("command", {"command": [sys.executable, "-c", STUBBORN, str(pids)]})
    await until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 3, "all three run")
    return attempt, [int(line) for line in pids.read_text().split()]


@pytest.mark.parametrize("reason", ["user", "timeout"])
def test_the_whole_tree_ends(tmp_path: Path, reason: Any) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pids = await _stubborn(place, tmp_path / "pids")
        place.executor.kill(attempt, reason)
        result = await place.result(attempt)
        assert result.outcome is (Outcome.CANCELLED if reason == "user" else Outcome.TIMEOUT)
        assert result.survivors == ()
        assert [pid for pid in pids if is_alive(pid)] == []

    at(tmp_path, scenario)


def test_a_stop_hurries_a_cancel(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pids = await _stubborn(place, tmp_path / "pids")
        place.executor.kill(attempt, "user")
        place.executor.kill(attempt, "stop")
        await until(lambda: place.stopped == [attempt], "it is said to be stopped")
        assert [pid for pid in pids if is_alive(pid)] == []

    at(tmp_path, scenario)


def test_what_it_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    pid = int(told(of(tmp_path, "sleep 600 & setsid sleep 600 & echo $!"))["stdout"])
    assert not is_alive(pid)


def test_a_polite_command_gets_time_to_tidy(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        done = tmp_path / "done"
        tidy = f"trap 'echo tidy > {shlex.quote(str(done))}; exit' TERM"
        line = f"{tidy}; echo up > {shlex.quote(str(tmp_path))}/up; while :; do sleep 0.05; done"
        attempt = place.start("command", {"command": line})
        await place.begun(tmp_path / "up")
        place.executor.kill(attempt, "user")
        assert (await place.result(attempt)).outcome is Outcome.CANCELLED
        assert done.read_text() == "tidy\n"

    at(tmp_path, scenario)


def test_a_storm_of_forks_ends(tmp_path: Path) -> None:
    storm = "f() { while [ ! -e stop ]; do sleep 0.01 & done; }; f & f & echo up > up; wait"

    async def scenario(place: Workplace) -> None:
        attempt = place.start("command", {"command": storm}, 60)
        await place.begun(place.directory / attempt / "up")
        place.executor.kill(attempt, "user")
        assert (await place.result(attempt)).outcome is Outcome.CANCELLED

    at(tmp_path, scenario)


def test_a_background_process_that_holds_the_output_open_delays_nothing(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt = place.start("command", {"command": "sleep 600 >&1 & exit 0"})
        assert (await place.result(attempt)).outcome is Outcome.SUCCESS

    at(tmp_path, scenario)
