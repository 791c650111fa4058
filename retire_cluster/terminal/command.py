"""How a command of a person runs: one line and an exit code for whatever goes wrong, never a stack trace."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from retire_cluster import __version__
from retire_cluster.sdk import ConnectionFailed, SdkError
from retire_cluster.terminal import shown
from retire_cluster.terminal.exits import Exit, Trouble


class Parser(argparse.ArgumentParser):
    """argparse with its complaint on one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message} (see --help)\n")


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def carried_out(program: str, act: Callable[[], int]) -> int:
    """The exit code of what a command does; trouble is one line on standard error."""
    try:
        code = act()
        sys.stdout.flush()
    except Trouble as trouble:
        return _failed(program, str(trouble), trouble.code)
    except ConnectionFailed as error:
        return _failed(program, str(error), Exit.UNREACHABLE)
    except SdkError as error:
        return _failed(program, str(error), Exit.FAILED)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has enough, as `head` does; what is buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return code


def _failed(program: str, words: str, code: Exit) -> int:
    shown.note(f"{program}: {words}")
    return code
