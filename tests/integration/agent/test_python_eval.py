"""`python_eval` in real child processes: what works, what is refused, and that nothing is left or harmed."""

import asyncio
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.execution import processes
from retire_cluster.agent.execution.children import shim
from retire_cluster.protocol.states import Outcome
from tests.integration.agent.fake_gateway import until
from tests.integration.agent.workplace import Workplace, at, is_alive, outcome

WORKS: list[tuple[str, dict[str, Any], Any]] = [
    ("2 ** 10", {}, 1024),
    ("sum(i*i for i in range(10))", {}, 285),
    ("sorted([3, 1, 2], reverse=True)", {}, [3, 2, 1]),
    ("math.sqrt(2) + math.pi", {}, 4.555806215962888),
    ("[x for x in range(5) if x % 2]", {}, [1, 3]),
    ("{k: v for k, v in zip('ab', (1, 2))}", {}, {"a": 1, "b": 2}),
    ("[_ for _ in range(2)]", {}, [0, 1]),
    ("x * y + len(names)", {"x": 2, "y": 3.5, "names": ["a"]}, 8.0),
    ("', '.join(str(n) for n in numbers)", {"numbers": [1, 2]}, "1, 2"),
    ("(lambda a, b=2: a + b)(1)", {}, 3),
    ("[y := 3, y * 2]", {}, [3, 6]),
    ("f'{1/3:.3f} {name!r}'", {"name": "é"}, "0.333 'é'"),
    ("  (1 +\n 1) ", {}, 2),
    ("None", {}, None),
    ("max(map(abs, [-3, 2]))", {}, 3),
    ("'%05.1f' % 3.14159", {}, "003.1"),
    ("next(i for i in range(10**9) if i > 5)", {}, 6),
    ("'a\\x00b'", {}, "a\ufffdb"),
]


def of(directory: Path, expression: str, timeout_s: float = 30.0, **variables: Any) -> Any:
    return outcome(directory, "python_eval", {"expression": expression, "variables": variables}, timeout_s)


def test_expressions_give_their_values(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempts = [
            place.start("python_eval", {"expression": expression, "variables": variables})
            for expression, variables, _ in WORKS
        ]
        for attempt, (expression, _, wanted) in zip(attempts, WORKS, strict=True):
            result = await place.result(attempt)
            assert result.error_message is None, expression
            assert json.loads(result.result_json or "") == {"result": wanted, "expression": expression}

    at(tmp_path, scenario)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 +", "not a Python expression"),
        ("import os", "not a Python expression"),
        ("x = 1", "not a Python expression"),
        ("unknown + 1", "the name 'unknown' is not known here"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("{1, 2}", "cannot be told as JSON"),
        ("float('nan')", "cannot be told as JSON"),
        ("2j", "cannot be told as JSON"),
        ("'a' * 4_000_000", "the limit is 3145728"),
    ],
)
def test_failures_are_told_in_words(tmp_path: Path, expression: str, words: str) -> None:
    result = of(tmp_path, expression)
    assert result.outcome is Outcome.FAILED
    assert words in (result.error_message or "")
    assert "/" not in (result.error_traceback or ""), "no path of the device"


def test_an_error_of_the_expression_shows_where(tmp_path: Path) -> None:
    result = of(tmp_path, "[1 // n for n in (1, 0)]")
    assert 'File "expression", line 1' in (result.error_traceback or "")
    assert (result.error_traceback or "").endswith("ZeroDivisionError: integer division or modulo by zero")


ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['id'])",
    "__import__('os').system('id')",
    "__builtins__",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd').read()",
    "getattr((), '__class__')",
    "type(1)",
    "globals()",
    "vars()",
    "breakpoint()",
    "input()",
    "compile('1', '', 'eval')",
    "'{0.__class__.__mro__}'.format(())",
    "'{x.__class__}'.format_map({'x': 1})",
    "str.format('{0.__class__}', 1)",
    "f'{().__class__}'",
    "(lambda: 0).__globals__",
    "(lambda: 0).__code__",
    "(i for i in ()).gi_frame.f_back.f_globals",
    "(x for x in [1]).gi_code",
    "math.__loader__.load_module('os')",
    "math.__dict__",
    "[].append.__self__",
    "(__builtins__ := {})",
    "[__class__ for __class__ in [1]]",
    "''.__doc__",
    "(lambda __x: 1)(2)",
    "''.join.__call__('a')",
    "await x",
    "(yield 1)",
    "1 if (os := math) and os.sys else 0",
    "int.mro()",
    "(1).real.__add__(2)",
]


@pytest.mark.parametrize("variables", [{"__builtins__": 1}, {"a b": 1}, {"__x": 1}, ["x"]])
def test_names_of_variables_are_checked(tmp_path: Path, variables: Any) -> None:
    result = outcome(tmp_path, "python_eval", {"expression": "1", "variables": variables})
    assert result.outcome is Outcome.FAILED
    assert "payload.variables" in (result.error_message or "")


def test_the_ways_out_are_refused(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempts = [place.start("python_eval", {"expression": expression}) for expression in ESCAPES]
        for attempt, expression in zip(attempts, ESCAPES, strict=True):
            result = await place.result(attempt)
            assert result.outcome is Outcome.FAILED, expression
            assert "payload.expression" in (result.error_message or ""), expression

    at(tmp_path, scenario)


BOMBS = [
    "9**9**9",
    "'a' * 10**10",
    "[0] * 10**9",
    "list(range(10**9))",
    "sum(1 for _ in iter(int, 1))",
    "list(iter(int, 1))",
    "all(iter(lambda: 1, 0))",
    "max(range(10**12))",
    "'x'.join(str(i) for i in range(10**8))",
    "1 << 10**10",
    "(lambda f: f(f))(lambda f: f(f))",
    "(" * 5000 + ")" * 5000,
    "-" * 50_000 + "1",
    "+".join(["1"] * 40_000),
    "'%1000000000d' % 1",
    "f'{1:>2000000000}'",
    "bytes(10**10)",
    "[[i for i in range(10**7)] for _ in range(10**7)]",
    "2 ** 100_000",
]


def largest_child_mb() -> float:
    """Of all this process ever had: also those of other tests count."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@pytest.mark.parametrize("expression", BOMBS, ids=lambda text: text[:20])
def test_bombs_end_and_harm_nobody(tmp_path: Path, expression: str) -> None:
    before_mb = largest_child_mb()
    result = of(tmp_path, expression, timeout_s=1.0)
    assert result.outcome in (Outcome.FAILED, Outcome.TIMEOUT)
    assert result.error_message
    assert result.survivors == ()
    assert largest_child_mb() <= max(before_mb, 600), "no child was larger than its limit"


def test_a_timeout_of_the_payload_counts(tmp_path: Path) -> None:
    payload = {"expression": "sum(1 for _ in iter(int, 1))", "timeout": 0.3}
    result = outcome(tmp_path, "python_eval", payload)
    assert result.outcome is Outcome.TIMEOUT
    assert "0.3 s" in (result.error_message or "")


def _evaluator(attempt: str) -> int | None:
    """The pid of the evaluator, once it is more than a fork of the shim."""
    for pid in shim.marked(attempt):
        if b"evaluate.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


async def _evaluating(place: Workplace) -> tuple[str, int]:
    """An endless evaluation: the attempt, and the pid of the evaluator."""
    attempt = place.start("python_eval", {"expression": "sum(1 for _ in iter(int, 1))"})
    pid: int = await until(lambda: _evaluator(attempt), "the evaluator runs")
    return attempt, pid


def test_a_cancel_ends_it(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        place.executor.kill(attempt, "user")
        result = await place.result(attempt)
        assert result.outcome is Outcome.CANCELLED
        assert not is_alive(pid)

    at(tmp_path, scenario)


def test_a_stop_says_so_only_when_nothing_runs(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, _ = await _evaluating(place)
        place.executor.kill(attempt, "stop")
        assert place.stopped == []
        await until(lambda: place.stopped == [attempt], "it is said to be stopped")
        assert shim.marked(attempt) == []
        await place.tidy(attempt)

    at(tmp_path, scenario)


def test_a_frozen_evaluator_is_ended(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        os.kill(pid, signal.SIGSTOP)
        place.executor.kill(attempt, "user")
        assert (await place.result(attempt)).outcome is Outcome.CANCELLED
        assert not is_alive(pid)

    at(tmp_path, scenario)


def test_a_frozen_guard_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE_S", 0.2)

    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        os.kill(shim.parents()[pid], signal.SIGSTOP)
        place.executor.kill(attempt, "user")
        assert (await place.result(attempt)).outcome is Outcome.CANCELLED
        assert not is_alive(pid)

    at(tmp_path, scenario)


def test_a_killed_evaluator_is_told(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        os.kill(pid, signal.SIGKILL)
        result = await place.result(attempt)
        assert result.outcome is Outcome.FAILED
        assert "SIGKILL" in (result.error_message or "")

    at(tmp_path, scenario)


def test_a_killed_guard_takes_the_task_with_it(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        os.kill(shim.parents()[pid], signal.SIGKILL)
        result = await place.result(attempt)
        assert result.outcome is Outcome.FAILED
        assert "guards the task was killed" in (result.error_message or "")
        assert not is_alive(pid)

    at(tmp_path, scenario)


def test_it_sees_nothing_of_the_agents_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")

    async def scenario(place: Workplace) -> None:
        attempt, pid = await _evaluating(place)
        environment = Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0").split(b"\0")
        assert [item.partition(b"=")[0] for item in environment] == [b"RETIRE_CLUSTER_ATTEMPT"]
        assert Path(f"/proc/{pid}/cwd").resolve() == place.directory / attempt
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert f"Max address space         {512 * 1024 * 1024}" in limits
        # While the interpreter starts it has its own program open, too.
        await until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) == 4, "only the four files are open")
        place.executor.kill(attempt, "user")
        await place.result(attempt)

    at(tmp_path, scenario)


def test_closing_ends_many_at_once(tmp_path: Path) -> None:
    async def scenario(place: Workplace) -> None:
        attempts = [(await _evaluating(place))[0] for _ in range(3)]
        await asyncio.wait_for(place.executor.close(), 10)
        assert [shim.marked(attempt) for attempt in attempts] == [[], [], []]
        assert place.results == {}
        assert not list(place.directory.iterdir())

    at(tmp_path, scenario)
