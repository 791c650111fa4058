"""A run as Markdown for people and JSON for programs."""

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from benchmarks.harness.figures import Cell, Goal, Outcome


def machine() -> dict[str, str]:
    """What it ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processors": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def as_json(titles: Mapping[str, str], outcomes: Mapping[str, Outcome], about: dict[str, str]) -> str:
    """Everything, block by block."""
    scenarios: dict[str, Any] = {}
    for number, outcome in outcomes.items():
        scenarios[number] = {"title": titles[number], **asdict(outcome)}
        for written, goal in zip(scenarios[number]["goals"], outcome.goals, strict=True):
            written["is_met"] = goal.is_met
            if not math.isfinite(goal.measured):
                written["measured"] = None
    return json.dumps({"about": about, "scenarios": scenarios}, indent=2) + "\n"


def as_markdown(titles: Mapping[str, str], outcomes: Mapping[str, Outcome], about: dict[str, str]) -> str:
    """A section a scenario: goals, then every cell as median (least to most)."""
    lines = ["# Benchmarks", "", ", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    lines += ["Durability: A volatile, B committed in PostgreSQL or SQLite, C memory, - nothing stored.", ""]
    for number, outcome in outcomes.items():
        lines += [f"## {number}: {titles[number]}", ""]
        if outcome.goals:
            lines += ["| Goal | Bound | Measured | Met |", "|---|---|---|---|"]
            lines += [_goal(goal) for goal in outcome.goals] + [""]
        for case in dict.fromkeys(cell.case for cell in outcome.cells):
            lines += _table(case, [cell for cell in outcome.cells if cell.case == case])
        lines += [f"* {name} did not run: {reason}" for name, reason in outcome.missing.items()]
        lines += [""] if outcome.missing else []
    return "\n".join(lines).rstrip() + "\n"


def _goal(goal: Goal) -> str:
    sign = ">=" if goal.at_least else "<="
    measured = f"{number(goal.measured)} {goal.unit}" if math.isfinite(goal.measured) else "void"
    met = "yes" if goal.is_met else "no"
    return f"| {goal.words} | {sign} {number(goal.bound)} {goal.unit} | {measured} | {met} |"


def _table(case: str, cells: list[Cell]) -> list[str]:
    names = list(dict.fromkeys(name for cell in cells for name in cell.figures))
    head = ["", *names, "Kept", "Settings"]
    lines = [f"**{case}**", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cell in cells:
        if cell.is_void:
            figures = [
                "void: " + cell.faults[0].replace("|", "/").replace("\n", " ")[:120],
                *[""] * (len(names) - 1),
            ]
        else:
            figures = [_figure(cell.figures.get(name, [])) for name in names]
        lines.append(
            "| " + " | ".join([cell.contestant, *figures, cell.durability.value, cell.settings]) + " |"
        )
    return [*lines, ""]


def _figure(values: list[float]) -> str:
    if not values:
        return ""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}-{number(max(values))})"


def number(value: float) -> str:
    """Three figures that count, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}".rstrip("0").rstrip(".") if digits else f"{round(value):,}"
