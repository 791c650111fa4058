"""A task's output as it comes: `run`, which is the command as if it ran here, and `logs`."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self, TextIO

from retire_cluster.sdk import Client, SdkError, Task
from retire_cluster.sdk.errors import Conflict
from retire_cluster.sdk.models import OutputChunk
from retire_cluster.terminal import advice, shown
from retire_cluster.terminal.exits import Exit, Trouble
from retire_cluster.terminal.tasks import placed, sent

# The window was closed; `kill`, `timeout` or a service manager. Windows has no SIGHUP.
_ENDS = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM") if hasattr(signal, name)]
STOP_S = 30.0  # how long a cancelled command may take to end before we leave


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`run -- COMMAND`: stream its output, exit with its code; Ctrl-C cancels it."""
    payload: dict[str, object] = {"command": _command(arguments.command)}
    if arguments.env:
        payload["env"] = dict(map(_assignment, arguments.env))
    if arguments.cwd:
        payload["cwd"] = arguments.cwd
    try:
        task = sent(client, placed(arguments, "command", payload))
    except SdkError as error:
        raise Trouble(f"not run: {advice.said(error)}", Exit.NOT_RUN) from None
    if arguments.detach:
        shown.as_json(task.raw) if arguments.json else shown.say(task.task_id)
        return Exit.OK
    try:
        with _cancelled_when_we_end(client, task), _told_to_end(), Output() as output:
            _announce(client, task)
            for chunk in client.logs(task, follow=True):
                output.pass_on(chunk)
            client.wait(task)
            return _code(client, task)
    except _Ended as told:
        return 128 + told.number
    except SdkError as error:
        again = f"it goes on, `retire-cluster logs -f {task.task_id}` shows it"
        words = f"lost sight of it: {advice.said(error)}; {again}"
        raise Trouble(words, Exit.NOT_RUN) from None


def _command(words: list[str]) -> str | list[str]:
    """One word is for the shell, several are a program with its arguments."""
    words = words[1:] if words and words[0] == "--" else words
    if not words:
        raise Trouble("the command is missing: retire-cluster run -- 'uname -a'", Exit.USAGE)
    return words[0] if len(words) == 1 else words


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Trouble(f"--env {text!r} must be NAME=VALUE", Exit.USAGE)
    return name, value


def _announce(client: Client, task: Task) -> None:
    """Say which task it is, and why it waits if it does: nothing here looks like running that does not run."""
    if not sys.stderr.isatty():
        return
    now = client.status(task)
    why = f" waits: {now.queue_reason}" if now.queue_reason else ""
    shown.note(f"task {task.task_id}{why}")


class _Ended(BaseException):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Raise _Ended when a signal says so, the first time. One that is ignored, as under nohup, stays so."""
    ours = [number for number in _ENDS if signal.getsignal(number) is signal.SIG_DFL]

    def leave() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, _frame: FrameType | None) -> None:
        leave()
        raise _Ended(number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        leave()


@contextmanager
def _cancelled_when_we_end(client: Client, task: Task) -> Iterator[None]:
    """By Ctrl-C or another signal, or as nobody reads any more: a command that ran here would end by that too."""
    try:
        yield
    except KeyboardInterrupt:
        _cancel(client, task)
        raise
    except (OSError, _Ended):  # nothing takes its output: a pipe or window that is gone, a full disk
        with suppress(SdkError):
            client.cancel(task)
        raise


def _cancel(client: Client, task: Task) -> None:
    """Until its device says that nothing runs any more."""
    try:
        shown.note(f"cancelling task {task.task_id}; Ctrl-C again leaves without waiting")
        client.cancel(task)
        ended = client.wait(task, STOP_S)
    except Conflict:
        return  # it ended meanwhile
    except SdkError as error:
        shown.note(f"whether it stopped is not known: {advice.said(error)}")
    except KeyboardInterrupt:
        shown.note(f"left without waiting; what became of it: retire-cluster tasks {task.task_id}")
    else:
        shown.note(
            f"{ended.status}: nothing of it runs any more" if ended.status == "cancelled" else ended.status
        )


class Output:
    """What a task prints, to the person; its colours end with it."""

    def __init__(self) -> None:
        self._coloured: set[TextIO] = set()
        self._attempt = 0  # that printed last

    def pass_on(self, chunk: OutputChunk) -> None:
        stream = sys.stderr if chunk.stream == "stderr" else sys.stdout
        if self._attempt not in (0, chunk.attempt):
            self.end_colours()
            shown.note(f"[attempt {chunk.attempt} begins here]")
        self._attempt = chunk.attempt
        if chunk.left_out:
            self.end_colours()
            shown.note(f"[{chunk.left_out} characters of output are missing here]")
        text = shown.passed_on(chunk.text, to_terminal=stream.isatty())
        if "\x1b" in text and stream.isatty():
            self._coloured.add(stream)
        stream.write(text)
        stream.flush()

    def end_colours(self) -> None:
        for stream in self._coloured:
            with suppress(OSError):
                stream.write(shown.COLOURS_END)
                stream.flush()
        self._coloured.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_colours()


def _code(client: Client, task: Task) -> int:
    """The command's own exit code, or one that says why there is none."""
    found = client.result(task)
    data = found.result_data if isinstance(found.result_data, dict) else {}
    code = data.get("return_code")
    if found.status == "timeout":
        shown.note(f"timeout: {found.error_message}")
        return Exit.TIMED_OUT
    if found.status == "cancelled":
        shown.note("it was cancelled")
        return Exit.INTERRUPTED
    if isinstance(code, int) and not isinstance(code, bool):
        return _as_ours(code)
    shown.note(f"{found.status}: {found.error_message}")
    return Exit.NOT_RUN


def _as_ours(code: int) -> int:
    """A device's exit code as one that this machine can have. A failure stays one: of 256 only 0 would be left."""
    if code < 0:
        return min(128 - code, 255)  # ended by a signal, as shells say it
    return code if code < 256 else (code & 0xFF or 1)


def logs(client: Client, arguments: argparse.Namespace) -> int:
    """`logs TASK`: what it printed; with -f until it ends."""
    with Output() as output:
        for chunk in client.logs(arguments.task, follow=arguments.follow):
            if arguments.json:
                shown.as_json(chunk.raw)
            else:
                output.pass_on(chunk)
    return Exit.OK
