"""Task types of a device owner's own: what a module of handlers imports.

    from retire_cluster.agent import handler

    @handler("word_count")
    def word_count(payload, ctx):
        return {"words": len(payload["text"].split())}

The module is loaded with `--handlers MODULE`, or found by the entry-point group `retire_cluster.handlers`. Each
task runs in a process of its own, so it can be stopped, and what it breaks is gone with it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

MAX_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
F = TypeVar("F", bound=Callable[..., Any])

registered: dict[str, Callable[..., Any]] = {}  # by task type, in this process


class Context(Protocol):
    """What a handler is given beside its payload."""

    attempt: str  # id of this attempt; another try has another
    task_id: str
    directory: Path  # of its own and its working directory; removed afterwards

    @property
    def cancelled(self) -> bool:
        """Whether it is to end: cancelled, or out of time. Three seconds later its process is killed."""

    def progress(self, percent: float | None, message: str = "") -> None:
        """Tell how far it is: 0 to 100, or None where that is unknown, and a few words. As often as you like."""

    def log(self, message: object) -> None:
        """Add a line to the task's log; what it prints is there too."""


def handler(task_type: str) -> Callable[[F], F]:
    """Register the decorated function, or coroutine function, for a task type.

    It is called as `function(payload, ctx)`; what it returns is the result, any JSON value; what it raises fails
    the task. Raises ValueError for a name that cannot be a task type or is taken, TypeError for no function.
    """
    if not isinstance(task_type, str) or len(task_type) > MAX_NAME or not _NAME.fullmatch(task_type):
        raise ValueError(
            f"@handler({task_type!r}): a task type is 1 to {MAX_NAME} letters, digits, '.', '_', ':' or '-', "
            "starting with a letter or digit"
        )

    def register(function: F) -> F:
        if not callable(function):
            raise TypeError(f"@handler({task_type!r}) decorates a function, not {type(function).__name__}")
        if registered.setdefault(task_type, function) is not function:
            raise ValueError(f"@handler({task_type!r}): there is a handler for this task type already")
        return function

    return register
