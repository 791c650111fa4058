"""How a command of a person runs: one line and an exit code for whatever goes wrong, never a stack trace."""

import _thread
import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from retire_cluster import __version__
from retire_cluster.sdk import ConnectionFailed, SdkError
from retire_cluster.terminal import advice, shown
from retire_cluster.terminal.exits import Exit, Trouble

_AGAIN_S = 0.05  # until a lost Ctrl-C comes again


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
    _prepare_streams()
    try:
        with _said_by_the_sdk(program), _no_interrupt_lost():
            code = _flushed(act)
    except Trouble as trouble:
        return _failed(program, str(trouble), trouble.code)
    except ConnectionFailed as error:
        return _failed(program, advice.said(error), Exit.UNREACHABLE)
    except SdkError as error:
        return _failed(program, advice.said(error), Exit.FAILED)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except RecursionError:
        return _failed(program, "the server's answer is nested too deeply to be shown", Exit.FAILED)
    except BrokenPipeError:
        _silence()  # whoever read us has enough, as `head` does
        return Exit.OK
    except OSError as error:  # a full disk
        _silence()
        return _failed(program, f"cannot write: {error.strerror or error}", Exit.FAILED)
    return code


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Ctrl-C that came while Python cleaned up comes once more.

    It raises wherever the main thread is, and what is raised in a finalizer or a generator that is thrown away goes
    nowhere: the command would run on as if nobody had said anything.
    """
    usual = sys.unraisablehook
    again: list[threading.Timer] = []

    def take(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # Not from here: that would be lost as well.
            again.append(threading.Timer(_AGAIN_S, _interrupt))
            again[-1].start()
        else:
            usual(lost)

    sys.unraisablehook = take
    try:
        yield
    finally:
        sys.unraisablehook = usual
        for timer in again:
            timer.cancel()


def _interrupt() -> None:
    """Ctrl-C, from another thread: as a signal, because what the main thread waits for ends by nothing less."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()  # Windows


def _flushed(act: Callable[[], int]) -> int:
    try:
        code = act()
    except SystemExit:  # argparse's, after --help
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def _prepare_streams() -> None:
    """Standard output and error that take every text, even where they were closed or know few letters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="replace"))  # noqa: SIM115 it stays open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence() -> None:
    """What is still buffered must not complain at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Notes(logging.Handler):
    """What the SDK logs, as lines for the person: that the server is away, and that it is back."""

    def __init__(self, program: str) -> None:
        super().__init__(logging.INFO)
        self._program = program

    def emit(self, record: logging.LogRecord) -> None:
        shown.note(f"{self._program}: {record.getMessage()}")


@contextmanager
def _said_by_the_sdk(program: str) -> Iterator[None]:
    logger, notes = logging.getLogger("retire_cluster.sdk"), _Notes(program)
    before = logger.level, logger.propagate
    logger.addHandler(notes)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(notes)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _failed(program: str, words: str, code: Exit) -> int:
    shown.note(f"{program}: {words}")
    return code
