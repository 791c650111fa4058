"""Runs custom task types: the owner's handlers, each task in an interpreter of its own."""

import asyncio
import contextlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retire_cluster.agent.errors import ConfigError
from retire_cluster.agent.execution.answer import Lines
from retire_cluster.agent.execution.capture import Capture, watched
from retire_cluster.agent.execution.handlers import Handler
from retire_cluster.agent.execution.processes import Program, child_program, died_of, is_supported, run
from retire_cluster.agent.execution.work import TaskError, Work
from retire_cluster.protocol.messages import MAX_RESULT_BYTES
from retire_cluster.protocol.states import Stream
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES

GROUP = "retire_cluster.handlers"  # of the entry points of packages that bring handlers
_ENTRY_POINTS = "*-[iI][nN][fF][oO]/entry_points.txt"  # of .dist-info, .egg-info and EGG-INFO
LIST_WITHIN_S = 60.0  # a phone may take long to import somebody's libraries
MAX_LINE_BYTES = 6 * MAX_RESULT_BYTES  # a character may take six as ASCII JSON
_INTERPRETER = ("-P", "-B", "-u", "-X", "utf8")  # the user's packages, but no module from beside the script
_OURS = "RETIRE_CLUSTER_"  # settings and secrets of the agent


class Modules:
    """The modules of handlers an owner named, and where Python finds them."""

    def __init__(self, named: Sequence[str]) -> None:
        """Each is a module's name, or the path of a file that ends in .py."""
        self.names: list[str] = []
        self.path = [os.getcwd(), *(entry for entry in sys.path if entry)]
        for text in named:
            file = Path(text).expanduser()
            if file.suffix == ".py":
                self.path.insert(0, str(file.absolute().parent))
                self.names.append(file.stem)
            else:
                self.names.append(text)

    def request(self, **more: Any) -> str:
        """What a child is told."""
        return json.dumps({"path": self.path, "modules": self.names, "group": GROUP, **more})

    def may_be_any(self) -> bool:
        """Whether a module is named, or an installed package may bring one: its metadata has the group then."""
        return bool(self.names) or any(_mentions(Path(entry)) for entry in self.path)


def _mentions(place: Path) -> bool:
    """Whether an entry of sys.path needs a closer look. An archive always does, but for the one we run from."""
    if not place.is_dir():
        return place.exists() and place not in Path(__file__).parents
    with contextlib.suppress(OSError):
        return any(GROUP.encode() in file.read_bytes() for file in place.glob(_ENTRY_POINTS))
    return True


async def discover(named: Sequence[str]) -> tuple[dict[str, Handler], list[str]]:
    """Handlers by task type, and warnings about installed packages that cannot be used. Raises ConfigError.

    Asked of a child, so that an owner's libraries never weigh on the agent.
    """
    if not is_supported():
        if named:
            raise ConfigError(
                "--handlers: this platform cannot end a task's processes surely, so it runs none"
            )
        return {}, []
    modules = Modules(named)
    if not await asyncio.to_thread(modules.may_be_any):
        return {}, []  # on most devices: a child would double the time of the start
    found = await _list(modules)
    if "error" in found:
        where = str(found.get("traceback") or "").strip()
        raise ConfigError(f"--handlers {','.join(named)}: {found['error']}" + (f"\n{where}" if where else ""))
    types: dict[str, str] = found["types"]
    for name in types:
        if name in BUILTIN_TYPES:
            raise ConfigError(f"--handlers: {types[name]} registers {name!r}, which is a built-in task type")
    return {name: _handler(name, modules) for name in types}, found["problems"]


async def _list(modules: Modules) -> dict[str, Any]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as said:
        try:
            child = await asyncio.create_subprocess_exec(
                *_argv(),
                str(write),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                pass_fds=[write],
            )
        finally:
            os.close(write)
        try:
            await asyncio.wait_for(child.communicate(modules.request().encode()), LIST_WITHIN_S)
        except TimeoutError:
            child.kill()
            await child.wait()
            raise ConfigError(
                f"--handlers: the modules were not imported within {LIST_WITHIN_S:g} s"
            ) from None
        return _last(said.read(), child.returncode)


def _last(said: bytes, code: int | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return {"error": f"their process ended with code {code} and said nothing"}
    return found


def _handler(task_type: str, modules: Modules) -> Handler:
    async def run_it(payload: dict[str, Any], work: Work) -> Any:
        own = str(await work.directory())
        program = Program(
            _argv(),
            env={**_environment(), "TMPDIR": own},
            cwd=own,
            stdin=modules.request(
                task_type=task_type, payload=payload, attempt=work.attempt, task=work.task, directory=own
            ),
        )
        story = _Story(work)
        lines, errors = Lines(MAX_LINE_BYTES, story.hear), Capture(4096)
        ended = await run(
            work,
            program,
            stdout=lambda data: work.show(Stream.STDOUT, data),
            stderr=watched(work, Stream.STDERR, errors),
            report=lines.write,
        )
        if lines.is_too_long:
            raise TaskError(
                f"the handler's result is too large; the limit is {MAX_RESULT_BYTES} bytes as JSON"
            )
        if "result" in story.end:
            return story.end["result"]
        raise TaskError(
            str(story.end.get("error") or died_of(ended, errors.text())), story.end.get("traceback")
        )

    return run_it


class _Story:
    """What the child tells, line by line. It is the task's own process: none of it is taken for granted."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.end: Mapping[str, Any] = {}

    def hear(self, words: Mapping[str, Any]) -> None:
        if isinstance(words.get("log"), str):
            self._work.show(Stream.LOG, words["log"].encode(errors="replace") + b"\n")
        elif isinstance(words.get("progress"), list):
            self._progress(*words["progress"][:2])
        else:
            self.end = words

    def _progress(self, percent: Any = None, message: Any = "") -> None:
        known = isinstance(percent, (int, float)) and math.isfinite(percent)
        self._work.tell_progress(float(percent) if known else None, str(message))


def _argv() -> list[str]:
    return [sys.executable, *_INTERPRETER, *child_program("handle")]


def _environment() -> dict[str, str]:
    """The owner's, whose code it is, without what belongs to the agent."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
