"""A bar on a terminal, and not a character anywhere else."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from retire_cluster.sdk.progress import counting
with counting(3, show={show}) as done:
    done(1)
    done(3)
print("end")
"""


def on_a_terminal(show: bool) -> str:
    """What the program writes to a terminal; its other output is no terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM.format(show=show)]
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True, text=True
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:  # Linux's way to say that the other side is closed
        os.close(ours)
    assert done.stdout == "end\n"
    return shown.decode()


def test_on_a_terminal_a_bar_shows_how_many_are_done() -> None:
    assert "3/3" in on_a_terminal(show=True)


def test_who_wants_none_gets_none() -> None:
    assert on_a_terminal(show=False) == ""


def test_in_a_pipe_there_is_none() -> None:
    command = [sys.executable, "-c", PROGRAM.format(show=True)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("end\n", "")
