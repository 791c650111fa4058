"""What a scenario found: figures by block in cells, one a case and contestant; goals that are met or not."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Durability(StrEnum):
    """Where a result is when it counts as had."""

    VOLATILE = "A"
    COMMITTED = "B"
    MEMORY = "C"
    NONE = "-"  # nothing is stored in this scenario


@dataclass(slots=True)
class Cell:
    """One contestant in one case. `figures` has one value a block, by name with its unit ("p50 ms", "tasks/s")."""

    case: str
    contestant: str
    durability: Durability = Durability.NONE
    settings: str = ""  # versions and what was set, in a line
    figures: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # a lost, doubled or wrong result: the cell is void

    @property
    def is_void(self) -> bool:
        return bool(self.faults)

    def add(self, figures: dict[str, float], faults: Sequence[str] = ()) -> None:
        """Take over what one block found."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)
        self.faults += faults

    def median(self, name: str) -> float:
        """Raises KeyError where no block had the figure."""
        return statistics.median(self.figures[name])


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure: at most or at least `bound`, in `unit`."""

    words: str
    measured: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


@dataclass(slots=True)
class Outcome:
    """Everything a scenario says. `missing` names contestants that did not run, each with the reason."""

    cells: list[Cell] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def cell(self, case: str, contestant: str) -> Cell | None:
        """The cell, if it was measured and is not void."""
        found = (cell for cell in self.cells if (cell.case, cell.contestant) == (case, contestant))
        return next((cell for cell in found if not cell.is_void and cell.figures), None)

    def at_most(self, words: str, cell: Cell | None, figure: str, bound: float, unit: str) -> None:
        """A goal on our own figure; without the figure it counts as not met."""
        measured = cell.median(figure) if cell else float("inf")
        self.goals.append(Goal(words, measured, bound, unit))

    def at_least(self, words: str, cell: Cell | None, figure: str, bound: float, unit: str) -> None:
        measured = cell.median(figure) if cell else 0.0
        self.goals.append(Goal(words, measured, bound, unit, at_least=True))

    def times(
        self, words: str, better: tuple[Cell | None, str], worse: tuple[Cell | None, str], bound: float
    ) -> None:
        """A goal on a ratio of two figures, first over second. Left out where a side was not measured."""
        (first, first_name), (second, second_name) = better, worse
        if first and second:
            ratio = first.median(first_name) / second.median(second_name)
            self.goals.append(Goal(words, ratio, bound, "x", at_least=True))

    def at_most_times(
        self, words: str, ours: tuple[Cell | None, str], reference: tuple[Cell | None, str], bound: float
    ) -> None:
        """A goal on a ratio of two of our own figures; without one of them it counts as not met."""
        (first, first_name), (second, second_name) = ours, reference
        ratio = first.median(first_name) / second.median(second_name) if first and second else float("inf")
        self.goals.append(Goal(words, ratio, bound, "x"))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed. Raises ValueError on no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
