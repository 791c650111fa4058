"""What a run of the torture amounts to, and how it is told."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from retire_cluster.torture.checker import JUDGES, Counts, Violation, count, judge
from retire_cluster.torture.history import History
from retire_cluster.torture.scenario import FAULTS, SERVER_FAULTS

_PROMISES = (*JUDGES, "I8", "settling", "server", "logs")


class Interrupted(RuntimeError):
    """SIGTERM came; every process is ended, nothing is proved."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"interrupted; logs and databases: {directory}")


@dataclass
class Report:
    """What came of it."""

    seed: int
    directory: Path
    episodes: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    kinds: tuple[str, ...] = (*FAULTS, *SERVER_FAULTS)  # of the faults there might be
    facts: dict[str, object] = field(default_factory=dict)  # about the run itself, by what they are
    violations: list[tuple[int, Violation]] = field(default_factory=list)

    def add(self, history: History) -> list[Violation]:
        """Judge an episode and count it; its violations."""
        self.episodes += 1
        found = judge(history)
        self.violations += [(history.number, violation) for violation in found]
        sizes: Counts = count(history)
        self.counts.update({name: getattr(sizes, name) for name in Counts.__slots__})
        self.endings.update(story.row.status for story in history.stories if story.row is not None)
        return found

    def complain(self, promise: str, what: str) -> None:
        """A violation that belongs to no episode."""
        self.violations.append((0, Violation(promise, "", what)))

    @property
    def passed(self) -> bool:
        return self.episodes > 0 and not self.violations


def table(report: Report) -> list[str]:
    """The result in lines."""
    counts = report.counts
    broken = Counter(violation.promise for _, violation in report.violations)
    lines = {
        "seed": report.seed,
        **report.facts,
        "tasks": f"{counts['tasks']} ({_pairs(report.endings)})",
        "attempts": counts["attempts"],
        "executions witnessed": counts["executions"],
        "duplicate executions": f"{counts['duplicate_executions']} (allowed)",
        "late results kept": counts["late_results"],
        "lost": f"{broken['I1']} (must be 0)",
        "duplicate recordings": f"{broken['recorded twice']} (must be 0)",
        "violations": f"{len(report.violations)} (must be 0)",
        "faults": sum(report.faults.values()),
    }
    return [
        *(f"{name:<24} {value}" for name, value in lines.items()),
        *(f"  {kind:<29} {report.faults[kind]}" for kind in report.kinds),
        *("judged by", f"  {', '.join(_PROMISES)}"),
        *(told(number, violation) for number, violation in report.violations),
    ]


def _pairs(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def told(number: int, violation: Violation) -> str:
    """A violation in one line."""
    where = f"episode {number}, task {violation.nonce or '-'}"
    return f"VIOLATION of {violation.promise} in {where}: {violation.what}"
