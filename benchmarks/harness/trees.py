"""What process trees cost: CPU and memory of processes and all their descendants."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil


@dataclass(slots=True)
class Cost:
    """CPU seconds, user and system."""

    cpu_s: float = 0.0


def family(roots: Iterable[int]) -> list[psutil.Process]:
    """The processes and all their descendants, each once."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                found[process.pid] = process
    return list(found.values())


def cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds so far of these processes' trees, of ended children too where their parent reaped them."""
    total = 0.0
    for process in family(roots):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_mib(roots: Iterable[int]) -> float:
    """Resident memory of the trees, MiB; what processes share counts for each."""
    total = 0
    for process in family(roots):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 2**20


@contextmanager
def spent(roots: Iterable[int]) -> Iterator[Cost]:
    """CPU seconds of the trees within the block."""
    pids = list(roots)
    cost, before = Cost(), cpu_s(pids)
    try:
        yield cost
    finally:
        cost.cpu_s = cpu_s(pids) - before
