"""What a process tree takes while it does nothing: memory in three readings, and CPU to the microsecond."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import trees

_KIB_OF_MIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB. `rss` counts what processes share for each of them, `pss` its share, `uss` what is a process's own."""

    rss: float = 0.0
    pss: float = 0.0
    uss: float = 0.0


def memory(root: int) -> Memory:
    """Of a process and its descendants."""
    rss = pss = uss = 0
    for process in trees.family([root]):
        for name, kib in _rollup(process.pid).items():
            rss += kib if name == "Rss" else 0
            pss += kib if name == "Pss" else 0
            uss += kib if name.startswith("Private_") else 0
    return Memory(rss / _KIB_OF_MIB, pss / _KIB_OF_MIB, uss / _KIB_OF_MIB)


def _rollup(pid: int) -> dict[str, int]:
    """KiB by name."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        words = [line.split() for line in lines]
        return {word[0].rstrip(":"): int(word[1]) for word in words if len(word) == 3}
    return {}


def cpu_s(root: int) -> float:
    """CPU seconds so far of a tree's living threads. The usual figures come in steps of 10 ms, too coarse here."""
    spent = 0
    for process in trees.family([root]):
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                spent += int(file.read_text().split()[0])
    return spent / 1e9
