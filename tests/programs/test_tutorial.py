"""The tutorial, typed as it stands into two shells. Only ports differ, and the packages are installed already."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.architecture.code import ROOT
from tests.documented import DOCS, Block, blocks, fits, says
from tests.e2e.cluster import BIN, clean_environment, free_port, until

TUTORIAL = DOCS / "tutorial.md"
FIRST, SECOND = "First terminal", "Second terminal"
LOOK_EACH_S = 2.0


class Terminal:
    """A bash of its own; what is typed into it runs as if a person had typed it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._out, self._err = directory / "stdout", directory / "stderr"
        directory.mkdir()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                ["bash"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=environment["HOME"],
                env=environment,
                start_new_session=True,
            )
        self._typed = 0

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def run(self, text: str) -> str:
        """Type it, wait for its end and return what it printed. Its last command has to succeed."""
        self._typed += 1
        mark, begin = f"--- typed {self._typed}: ", len(self.said())
        self.type(f'{text}\necho "{mark}$?"\n')
        until(lambda: re.search(rf"{mark}\d+\n", self.said()), f"the end of:\n{text}{self.complained()}")
        printed, _, code = self.said()[begin:].rpartition(mark)
        assert code.strip() == "0", f"{text}\n{printed}\n{self.complained()}"
        return printed

    def said(self) -> str:
        return self._out.read_text()

    def complained(self) -> str:
        return self._err.read_text()

    def signal(self, number: signal.Signals) -> None:
        """To everything in it: Ctrl-C is SIGINT."""
        os.killpg(self._process.pid, number)

    def wait(self) -> None:
        self._process.wait(30)

    def close(self) -> None:
        """End everything that was started in it."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        with suppress(BrokenPipeError):  # what it never read
            self._process.communicate()


class Reader:
    """Somebody who follows the page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.api_port, self.gateway_port = free_port(), free_port()
        home.mkdir()
        environment = {
            **clean_environment(),
            "HOME": str(home),
            "RETIRE_CLUSTER_API_PORT": str(self.api_port),
            "RETIRE_CLUSTER_CLUSTER_PORT": str(self.gateway_port),
        }
        self.terminals = {
            name: Terminal(home.parent / name.partition(" ")[0], environment) for name in (FIRST, SECOND)
        }

    def here(self, text: str) -> str:
        """The text for this test's server and source."""
        text = text.replace(":8081", f":{self.api_port}").replace(":8080", f":{self.gateway_port}")
        return text.replace("REPOSITORY", str(ROOT))

    def follow(self, block: Block, shown: Block | None) -> None:
        text, terminal = self.here(block.text), self.terminals[block.title]
        if "make run" in text:
            assert shown is not None
            self._have_packages()
            terminal.type(text)
            expected = self.here(shown.text)
            until(lambda: says(expected, terminal.said()), f"the server to say\n{expected}")
        elif shown is None:
            terminal.run(text)
        elif is_reading(text):
            self._look_again(terminal, text, shown)
        else:
            answer = terminal.run(text)
            assert fits(json.loads(shown.text), json.loads(answer)), f"{shown}:\n{answer}"

    def _look_again(self, terminal: Terminal, text: str, shown: Block) -> None:
        """As seldom as a person would: the server lets nobody ask more than sixty times a minute."""
        next_look = 0.0

        def fitted() -> bool:
            nonlocal next_look
            if time.monotonic() < next_look:
                return False
            answer = terminal.run(text)
            next_look = time.monotonic() + LOOK_EACH_S
            return fits(json.loads(shown.text), json.loads(answer))

        until(fitted, f"{shown} to come")

    def _have_packages(self) -> None:
        """What `make run` would install: the environment this test runs in."""
        environment = self.home / "retire-cluster" / ".venv"
        environment.mkdir()
        (environment / "bin").symlink_to(BIN)
        (environment / ".installed-api").touch()

    def close(self) -> None:
        for terminal in self.terminals.values():
            terminal.close()


def is_reading(text: str) -> bool:
    """Whether it may be asked again until it is so: a person would wait and look again."""
    return "curl" in text and "-X POST" not in text


@contextmanager
def reader(home: Path) -> Iterator[Reader]:
    found = Reader(home)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.timeout(240)
def test_every_command_of_the_tutorial_does_what_the_page_says(tmp_path: Path) -> None:
    assert shutil.which("curl"), "this test runs curl: apt install curl"
    steps = [block for block in blocks(TUTORIAL) if block.language in ("bash", "text", "json")]
    assert len([block for block in steps if block.language == "bash"]) > 10
    with reader(tmp_path / "home") as person:
        *followed, last = [
            (block, after if after is not None and after.language != "bash" else None)
            for block, after in pairwise([*steps, None])
            if block is not None and block.language == "bash"
        ]
        for block, shown in followed:
            person.follow(block, shown)

        dashboard = httpx.get(f"http://127.0.0.1:{person.api_port}/")
        assert dashboard.status_code == 200
        assert "second-device" in dashboard.text

        person.terminals[FIRST].signal(signal.SIGINT)
        person.terminals[FIRST].wait()
        person.follow(*last)
        assert [item.name for item in person.home.iterdir() if item.name != ".cache"] == []
