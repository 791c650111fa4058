"""One run: where its files are, how long it may take, and blocks of the contestants in turn."""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.figures import Cell
from retire_cluster.torture import postgres

DURABLE: Mapping[
    str, str
] = {}  # PostgreSQL's own settings: every commit is on the disk before it is answered

Measure = Callable[
    [], tuple[dict[str, float], list[str]]
]  # one block: its figures, and what was lost or wrong


@dataclass(slots=True)
class Bench:
    """What a scenario is given. `directory` is empty and goes away with it; `cache` stays between runs."""

    directory: Path
    cache: Path
    quick: bool
    blocks: int = 3
    peers: bool = True  # False: ours alone, for work on it
    stack: ExitStack = field(default_factory=ExitStack)  # whatever is entered here ends with the scenario

    def pick(self, quick: int, full: int) -> int:
        """A size by profile."""
        return quick if self.quick else full

    def say(self, words: str) -> None:
        """One line of progress."""
        print(f"    {time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)

    def interleave(self, contestants: Sequence[tuple[Cell, Measure]]) -> None:
        """A block that does not count, then `blocks` measured ones, one contestant after the other in each round.

        Whoever fails drops out: its cell is void with the reason.
        """
        for number in range(self.blocks + 1):
            for cell, measure in contestants:
                if cell.is_void:
                    continue
                gc.collect()
                try:
                    figures, faults = measure()
                except Exception as error:
                    cell.faults.append(f"{type(error).__name__}: {error}")
                    self.say(f"{cell.case}, {cell.contestant}: {cell.faults[-1]}")
                    continue
                cell.add(figures if number else {}, faults)
                shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                self.say(f"{cell.case}, {cell.contestant}, block {number or 'warm-up'}: {shown}")


@contextmanager
def durable_postgres(log: Path) -> Iterator[postgres.Server]:
    """A PostgreSQL that syncs each commit, as it is installed."""
    with postgres.running(log, DURABLE) as server:
        yield server
