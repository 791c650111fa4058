"""A bar on a terminal; nothing where the output goes to a file or a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """What is told how many of the total are done. The bar is on stderr: stdout is the program's."""
    if not (show and total and sys.stderr.isatty()):
        yield _nothing
        return
    # Here, because it costs more to import than all the rest, and programs without a terminal need none of it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Rich would print what the program writes meanwhile above the bar: to stderr, though stdout is a pipe.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=shared) as bar:
        line = bar.add_task("tasks", total=total)
        yield lambda done: bar.update(line, completed=done)


def _nothing(done: int) -> None:
    pass
