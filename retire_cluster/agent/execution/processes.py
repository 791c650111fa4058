"""Runs one task's program behind a shim, which leaves none of its processes behind (children/shim.py).

The agent holds the shim's standard input for as long as the task may run: however the agent ends, the pipe ends
with it, and the shim ends the task.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retire_cluster.agent.execution.work import TaskError, Work

GRACE_S = 3.0  # between TERM and KILL
MARK = "RETIRE_CLUSTER_ATTEMPT"  # in the environment of all that belongs to an attempt
# Bytes still in the pipes are there at once; only what survived, or was given away, keeps them open longer.
_DRAIN_S = 1.0
# A shim that has not ended its task by now does not run itself: somebody stopped it.
_PATIENCE_S = GRACE_S + 10.0
_CHILDREN = Path(__file__).parent / "children"
_INTERPRETER = ("-I", "-S", "-B", "-X", "utf8")
# Runs a program of ours that stands in the archive the agent was started from, where no interpreter finds a file.
_FROM_ARCHIVE = (
    "import sys, zipimport; exec(zipimport.zipimporter(sys.argv.pop(1)).get_code(sys.argv.pop(1)))"
)

Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `limits` are resource limits by the last part of their names (resource.RLIMIT_*)."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    stdin: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` as in subprocess, None when it is not known."""

    code: int | None
    survivors: tuple[str, ...] = ()
    spawn_error: str | None = None  # why it never began
    guard_died: bool = False  # somebody ended the shim itself


def is_supported() -> bool:
    """Whether this platform can end a task's processes surely."""
    return os.name == "posix"


def child_argv(name: str) -> list[str]:
    """A program of ours as a process without the user's site and environment."""
    return [sys.executable, *_INTERPRETER, *child_program(name)]


def child_program(name: str) -> list[str]:
    """What an interpreter is told, after its options, to run a program of ours."""
    if _CHILDREN.is_dir():
        return [str(_CHILDREN / f"{name}.py")]
    return ["-c", _FROM_ARCHIVE, str(_CHILDREN), name]


async def run(
    work: Work, program: Program, *, stdout: Sink, stderr: Sink, report: Sink | None = None
) -> Ended:
    """Run the program to its end. Cancelled, it ends all its processes before it raises CancelledError.

    Survivors are left in the work. `report` receives what the program writes to descriptor 3.
    Raises TaskError when the device cannot start a process.
    """
    guarded = _Guarded(work.attempt, program, {1: stdout, 2: stderr}, report)
    running = asyncio.ensure_future(guarded.run())
    try:
        ended = await asyncio.shield(running)
    except asyncio.CancelledError:
        work.hurry = guarded.kill
        if work.kill_reason == "stop":
            guarded.kill()
        else:
            guarded.terminate()
        with contextlib.suppress(TaskError):  # it never began
            if not (await asyncio.wait({running}, timeout=_PATIENCE_S))[0]:
                guarded.abandon()
            work.survivors = (await running).survivors
        raise
    work.survivors = ended.survivors
    return ended


class _Shim(asyncio.SubprocessProtocol):
    """What the event loop tells of the shim and its pipes."""

    def __init__(self, sinks: Mapping[int, Sink]) -> None:
        self._sinks = sinks
        self._open = set(sinks)
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._sinks[fd](data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()


class _Report(asyncio.Protocol):
    """The pipe at the program's descriptor 3."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._sink(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


class _Guarded:
    """One program and its shim."""

    def __init__(
        self, attempt: str, program: Program, sinks: Mapping[int, Sink], report: Sink | None
    ) -> None:
        self._attempt = attempt
        self._program = program
        self._sinks = sinks
        self._report = report
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._word: bytes = b""

    def terminate(self) -> None:
        """Ask the program to end; it has GRACE_S."""
        self._say(b"term\n")

    def kill(self) -> None:
        """End the program at once."""
        self._say(b"kill\n")

    def abandon(self) -> None:
        """Kill the shim, and look for its processes ourselves."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    def _say(self, word: bytes) -> None:
        self._word = word
        if self._stdin is not None:
            self._stdin.write(word)

    async def run(self) -> Ended:
        with contextlib.ExitStack() as files:
            try:
                return await self._run(files)
            except OSError as error:
                raise TaskError(
                    f"this device cannot start a process now: {error.strerror or error}"
                ) from None

    async def _run(self, files: contextlib.ExitStack) -> Ended:
        status, status_end = self._pipe(files)
        passed = [status_end]
        reading = None
        if self._report is not None:
            ours, theirs = self._pipe(files)
            passed.append(theirs)
            reading = await self._read(ours, self._report)
        shim = _Shim(self._sinks)
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: shim,
            *child_argv("shim"),
            *(str(end.fileno()) for end in passed),
            env={MARK: self._attempt},
            cwd="/",
            pass_fds=[end.fileno() for end in passed],
            start_new_session=True,  # a Ctrl-C at the agent's terminal is for the agent
        )
        try:
            for end in passed:
                end.close()
            self._hand_over(transport)
            await shim.exited.wait()
            await _within(_DRAIN_S, shim.drained.wait())
            if reading is not None:
                await _within(_DRAIN_S, reading.ended.wait())
        finally:
            transport.close()
        return await self._last_words(status)

    @staticmethod
    def _pipe(files: contextlib.ExitStack) -> "tuple[Any, Any]":
        """Both ends as files, closed with the stack at the latest."""
        read, write = os.pipe()
        ours, theirs = os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)
        files.enter_context(ours)
        files.enter_context(theirs)
        return ours, theirs

    @staticmethod
    async def _read(pipe: Any, sink: Sink) -> _Report:
        _, protocol = await asyncio.get_running_loop().connect_read_pipe(lambda: _Report(sink), pipe)
        return protocol

    def _hand_over(self, transport: asyncio.SubprocessTransport) -> None:
        """Say what to do, and what was said meanwhile."""
        program = self._program
        job = {
            "argv": list(program.argv),
            "env": {**program.env, MARK: self._attempt},
            "cwd": program.cwd,
            "stdin": program.stdin,
            "limits": dict(program.limits),
            "grace_s": GRACE_S,
        }
        text = json.dumps(job).encode()
        self._transport = transport
        stdin: Any = transport.get_pipe_transport(0)
        self._stdin = stdin
        stdin.write(len(text).to_bytes(4, "big") + text + self._word)

    async def _last_words(self, status: Any) -> Ended:
        os.set_blocking(status.fileno(), False)
        said = status.read(65_536)
        if said:
            last = json.loads(said)
            return Ended(last["code"], tuple(last["survivors"]), last["failure"])
        from retire_cluster.agent.execution.children import shim

        survivors = await asyncio.to_thread(shim.end_marked, self._attempt)
        return Ended(None, tuple(survivors), guard_died=True)


async def _within(seconds: float, event: Any) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event, seconds)


def died_of(ended: Ended, stderr: str) -> str:
    """Why a program of ours gave no answer, in words."""
    if ended.spawn_error is not None:
        return f"this device cannot start a process now: {ended.spawn_error}"
    if ended.guard_died:
        return "the process that guards the task was killed on the device, so the task was ended"
    if ended.code is not None and ended.code < 0:
        return f"the process was ended by {signal_name(-ended.code)}"
    return f"the process ended with code {ended.code}: {stderr.strip()[-500:] or 'it said nothing'}"


def signal_name(number: int) -> str:
    """A signal as a person knows it, with what it usually means."""
    import signal

    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return {
        "SIGKILL": "SIGKILL: most likely the device ran out of memory",
        "SIGSEGV": "SIGSEGV: it crashed",
        "SIGXCPU": "SIGXCPU: it used up its processor time",
    }.get(name, name)
