"""Whoever runs no-ops in a block: ours or a peer behind one interface, and what a block costs."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.harness import trees
from benchmarks.harness.bench import Measure
from benchmarks.harness.figures import Durability, percentile
from benchmarks.harness.rest import Answer, Line


@dataclass(frozen=True, slots=True)
class Latencies:
    """From before a submission to its result at the client, one at a time."""

    times_ms: Sequence[float]
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Run:
    """Many tasks: until the last submission was answered, and until the client saw that all have ended.

    `check` asks for each result once, after the clocks of time and CPU stopped, and returns what is wrong.
    """

    submit_s: float
    total_s: float
    check: Callable[[], list[str]]


def over_http(port: int, requests: Sequence[bytes], judge: Callable[[list[Answer]], list[str]]) -> Latencies:
    """Ask one request after the other on a kept connection; the answers are judged afterwards."""
    times: list[float] = []
    answers: list[Answer] = []
    with Line(port) as line:
        for data in requests:
            began = time.perf_counter()
            answers.append(line.ask(data))
            times.append(1000 * (time.perf_counter() - began))
    return Latencies(times, judge(answers))


class Contestant(Protocol):
    """A system that is started and waits. `roots` are the processes whose trees count as its cost."""

    @property
    def name(self) -> str: ...
    @property
    def durability(self) -> Durability: ...
    @property
    def settings(self) -> str: ...
    @property
    def roots(self) -> Sequence[int]: ...

    def latency(self, count: int) -> Latencies: ...


def latency(contestant: Contestant, count: int) -> Measure:
    """A block of so many tasks, one at a time."""

    def measure() -> tuple[dict[str, float], list[str]]:
        began_s = time.process_time()  # where the client is this process
        with trees.spent(contestant.roots) as cost:
            found = contestant.latency(count)
            client_s = time.process_time() - began_s
        figures = {
            "p50 ms": percentile(found.times_ms, 0.5),
            "p99 ms": percentile(found.times_ms, 0.99),
            "CPU ms a task": 1000 * (cost.cpu_s + client_s) / count,
        }
        return figures, found.faults

    return measure


def throughput(contestant: Contestant, run: Callable[[int], Run], count: int) -> Measure:
    """A block of so many tasks as fast as they go. The first, which only warms up, is a tenth of it."""
    sizes = iter([math.ceil(count / 10)])

    def measure() -> tuple[dict[str, float], list[str]]:
        size = next(sizes, count)
        began_s = time.process_time()
        with trees.spent(contestant.roots) as cost:
            found = run(size)
            client_s = time.process_time() - began_s
        figures = {
            "tasks/s": size / found.total_s,
            "submit/s": size / found.submit_s,
            "CPU-s per 1,000": 1000 * (cost.cpu_s + client_s) / size,
        }
        return figures, found.check()

    return measure
