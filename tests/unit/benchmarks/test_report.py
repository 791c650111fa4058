"""What a benchmark says: medians and ranges, goals met or not, and nothing of a cell that lost a result."""

import json
from pathlib import Path

import pytest

from benchmarks.harness import report
from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import Cell, Durability, Goal, Outcome, percentile

ABOUT = {"date": "today", "processors": "2"}


def outcome(*faults: str) -> Outcome:
    ours = Cell("alone", "ours", Durability.COMMITTED, "as installed", {"p50 ms": [3.0, 1.0, 2.0]}, [*faults])
    found = Outcome([ours, Cell("alone", "theirs", figures={"p50 ms": [8.0]})])
    found.at_most("p50", found.cell("alone", "ours"), "p50 ms", 5, "ms")
    mine, theirs = found.cell("alone", "ours"), found.cell("alone", "theirs")
    found.times("theirs over ours", (theirs, "p50 ms"), (mine, "p50 ms"), 10)
    return found


def test_figures_are_medians_with_their_range_and_goals_say_whether_they_are_met() -> None:
    text = report.as_markdown({"S1": "Latency"}, {"S1": outcome()}, ABOUT)
    assert "| ours | 2 (1-3) | B | as installed |" in text
    assert "| p50 | <= 5 ms | 2 ms | yes |" in text
    assert "| theirs over ours | >= 10 x | 4 x | no |" in text


def test_a_lost_result_voids_the_cell_and_its_goals() -> None:
    found = outcome("task 7 has no result")
    text = report.as_markdown({"S1": "Latency"}, {"S1": found}, ABOUT)
    assert "void: task 7 has no result" in text
    assert "| p50 | <= 5 ms | void | no |" in text
    assert "theirs over ours" not in text
    goal = json.loads(report.as_json({"S1": "Latency"}, {"S1": found}, ABOUT))["scenarios"]["S1"]["goals"][0]
    assert (goal["is_met"], goal["measured"]) == (False, None)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("a", 5, 5), True),
        (Goal("a", 5.1, 5), False),
        (Goal("a", 5, 5, at_least=True), True),
        (Goal("a", 4.9, 5, at_least=True), False),
    ],
)
def test_a_bound_is_part_of_the_goal(goal: Goal, met: bool) -> None:
    assert goal.is_met is met


def test_contestants_take_turns_and_the_first_block_does_not_count(tmp_path: Path) -> None:
    turns: list[str] = []

    def measure(name: str, fails: bool = False) -> tuple[dict[str, float], list[str]]:
        turns.append(name)
        if fails:
            raise RuntimeError("it ended")
        return {"tasks/s": float(len(turns))}, []

    good, bad = Cell("c", "good"), Cell("c", "bad")
    bench = Bench(tmp_path, tmp_path, quick=True)
    bench.interleave([(good, lambda: measure("good")), (bad, lambda: measure("bad", fails=True))])

    assert turns == ["good", "bad", "good", "good", "good"]
    assert len(good.figures["tasks/s"]) == 3
    assert bad.faults == ["RuntimeError: it ended"]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.0123, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_three_figures_count(value: float, shown: str) -> None:
    assert report.number(value) == shown
