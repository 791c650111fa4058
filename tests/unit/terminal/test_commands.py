"""The commands' shape: every flag is described, trouble is one line, nothing needs the server's packages."""

import argparse
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from retire_cluster.sdk import ConnectionFailed
from retire_cluster.terminal import administration, main, server, status
from retire_cluster.terminal.command import carried_out
from retire_cluster.terminal.exits import Exit, Trouble

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "terminal.md"


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """It and the commands within it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def undescribed(text: str) -> list[str]:
    """Commands and flags that the page does not name."""
    wanted: set[str] = set()
    for parser in (*parsers(main.build_parser()), *parsers(status.build_parser())):
        wanted.add(parser.prog.removeprefix("retire-cluster "))
        wanted.update(flag for action in parser._actions for flag in action.option_strings)
    wanted -= {"-h", "--help"}
    return sorted(word for word in wanted if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text))


def test_every_command_and_flag_is_in_the_reference() -> None:
    assert undescribed(PAGE.read_text()) == []


def test_a_flag_without_an_entry_is_found() -> None:
    assert undescribed(PAGE.read_text().replace("--on-device-loss", "--on")) == ["--on-device-loss"]


def test_every_exit_code_is_in_the_reference() -> None:
    text = PAGE.read_text()
    assert [code for code in Exit if f"| {code.value} |" not in text] == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["cancel"], "TASK"),
        (["submit", "echo", "--cores", "many"], "--cores"),
        (["nothing"], "nothing"),
        (["keys", "create", "x", "--scopes", "read", "--expires", "soon"], "90s"),
    ],
)
def test_wrong_use_is_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(argv)
    said = capsys.readouterr().err
    assert left.value.code == Exit.USAGE
    assert words in said
    assert said.count("\n") == 1


def test_flags_hold_before_and_behind_an_inner_command() -> None:
    for argv in (
        ["keys", "--api", "nas", "--json", "create", "x", "--scopes", "read"],
        ["keys", "create", "--api", "nas", "--json", "x", "--scopes", "read"],
    ):
        arguments = server.complete(main.build_parser().parse_args(argv))
        assert (arguments.api, arguments.json, arguments.act) == ("nas", True, administration.create_key)


def test_flags_hold_before_the_command_and_those_behind_it_win() -> None:
    before = ["--api", "nas", "--api-key", "k", "--ca", "ca.pem", "--json"]
    for command in (["tasks"], ["keys", "create", "x", "--scopes", "read"]):
        found = server.complete(main.build_parser().parse_args([*before, *command]))
        assert (found.api, found.api_key, found.ca, found.json) == ("nas", "k", "ca.pem", True)
        found = server.complete(main.build_parser().parse_args([*before, *command, "--api", "attic"]))
        assert (found.api, found.api_key) == ("attic", "k")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Trouble("words", Exit.TIMED_OUT), Exit.TIMED_OUT),
        (ConnectionFailed("words"), Exit.UNREACHABLE),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_each_trouble_has_its_code(error: BaseException, code: Exit) -> None:
    def act() -> int:
        raise error

    assert carried_out("program", act) == code


class _Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)  # raises here, in the midst of cleaning up


def test_ctrl_c_while_python_cleans_up_is_not_lost() -> None:
    waited = threading.Event()

    def act() -> int:
        _Finalized()
        waited.wait(600)  # which nothing less than a signal ends
        return Exit.OK

    hook = sys.unraisablehook
    assert carried_out("program", act) == Exit.INTERRUPTED
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_durations(text: str, seconds: int) -> None:
    assert administration.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1.5h", "-1d", "3 d", "30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        administration.duration(text)


def test_the_terminal_loads_nothing_of_the_server() -> None:
    code = (
        "import sys, retire_cluster.terminal.main, retire_cluster.terminal.status\n"
        "heavy = {'django', 'celery', 'rest_framework', 'channels', 'psycopg'}\n"
        "print(*sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
