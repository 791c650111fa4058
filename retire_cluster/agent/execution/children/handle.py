"""Runs one task of a custom type with its owner's handler, or lists the handlers there are.

Reads one JSON object from standard input: `path` (sys.path), `modules`, `group` (of entry points), and for a task
`task_type`, `payload`, `attempt`, `task` and `directory`. Writes JSON objects to descriptor 3 (or the one named),
one a line: {"progress": [percent, message]}, {"log": text}, and last {"result"} or {"error", "traceback"}; for a
list {"types": {name: module}, "problems": [...]}.
"""

import asyncio
import importlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

REPORT_FD = 3
MAX_TEXT = 4000
MAX_TRACE = 16_000
MAX_LINE = 8000  # characters of one log message
PROGRESS_EVERY_S = 0.2


class Report:
    """The way to the agent."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # what the handler starts must not hold it open
        self._stream = os.fdopen(fd, "w", encoding="utf-8", errors="surrogatepass")
        self._lock = threading.Lock()

    def say(self, words: dict[str, Any]) -> None:
        with self._lock:
            self._stream.write(json.dumps(words) + "\n")
            self._stream.flush()


class Context:
    """Implements retire_cluster.agent.Context."""

    def __init__(self, request: dict[str, Any], report: Report) -> None:
        self.attempt: str = request["attempt"]
        self.task_id: str = request["task"]
        self.directory = Path(request["directory"])
        self._report = report
        self._cancelled = threading.Event()
        self._latest: tuple[float | None, str] | None = None
        self._telling = threading.Lock()
        self._has_progress = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self._cancelled.set())
        threading.Thread(target=self._tell_progress, daemon=True).start()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def progress(self, percent: float | None, message: str = "") -> None:
        if percent is not None and (isinstance(percent, bool) or not isinstance(percent, (int, float))):
            raise TypeError(f"ctx.progress: percent must be a number or None, not {percent!r}")
        latest = (None if percent is None else float(percent), str(message)[:500])
        with self._telling:
            self._latest = latest
        self._has_progress.set()

    def log(self, message: object) -> None:
        self._report.say({"log": str(message)[:MAX_LINE]})

    def _tell_progress(self) -> None:
        """The latest only, and not too often: a handler may count each row of millions."""
        while self._has_progress.wait():
            self._has_progress.clear()
            self.last_progress()
            self._cancelled.wait(PROGRESS_EVERY_S)

    def last_progress(self) -> None:
        """Tell what was not told yet."""
        with self._telling:  # until it is told: the end of the task must not overtake it
            latest, self._latest = self._latest, None
            if latest is not None:
                self._report.say({"progress": [_finite(latest[0]), latest[1]]})


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else min(100.0, max(0.0, value))


def load(modules: list[str], group: str) -> Iterator[str]:
    """Import the modules and what installed packages offer; yields what is wrong with one of the latter."""
    for name in modules:
        importlib.import_module(name)
    for entry in sorted(entry_points(group=group)):
        try:
            entry.load()
        except BaseException as error:
            yield f"the handlers {entry.value!r} of an installed package cannot be loaded: {in_words(error)}"


def listed(request: dict[str, Any]) -> dict[str, Any]:
    """The task types there are handlers for, with the module of each."""
    from retire_cluster.agent.custom import registered

    try:
        problems = list(load(request["modules"], request["group"]))
    except BaseException as error:
        return {"error": in_words(error), "traceback": trace(error) or None}
    types = {name: function.__module__ for name, function in registered.items()}
    return {"types": types, "problems": problems}


def run(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """What came of the task."""
    from retire_cluster.agent.custom import registered
    from retire_cluster.protocol import jsontext

    context = Context(request, report)
    try:
        for problem in load(request["modules"], request["group"]):
            print(problem, file=sys.stderr)
        function = registered.get(request["task_type"])
        if function is None:
            return {"error": f"there is no handler for {request['task_type']!r} on this device any more"}
        value = function(request["payload"], context)
        if inspect.isawaitable(value):
            value = asyncio.run(_finish(value))
        context.last_progress()
        return {"result": jsontext.loads(jsontext.dumps_lossy(value))}
    except SystemExit as error:
        return {"error": f"the handler called sys.exit({error.code!r})"}
    except BaseException as error:
        return {"error": in_words(error), "traceback": trace(error) or None}


async def _finish(value: Any) -> Any:
    return await value


def in_words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_TEXT]
    except Exception:
        return type(error).__name__


def trace(error: BaseException) -> str:
    """Without the frames of this file and of the import machinery, which would not help the handler's author; empty
    where there are no others."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != trace.__code__.co_filename
        and not frame.filename.startswith(("<frozen importlib", importlib.__file__))
    ]
    if not frames:
        return ""
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames), in_words(error)]
    return "".join(lines)[-MAX_TRACE:]


def main() -> None:
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    report = Report(int(sys.argv[1]) if len(sys.argv) > 1 else REPORT_FD)
    report.say(run(request, report) if "task_type" in request else listed(request))
    sys.stdout.flush()
    os._exit(0)  # threads and exit hooks of the handler's libraries must not keep the task running


if __name__ == "__main__":
    main()
