"""Runs episodes on a scratch cluster, many at a time, judges each, and reports."""

import asyncio
import itertools
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from retire_cluster.torture import evidence
from retire_cluster.torture.lane import Lane
from retire_cluster.torture.processes import CannotStart, Server
from retire_cluster.torture.report import Interrupted, Report, table, told
from retire_cluster.torture.scenario import AGENTS, draw, draw_weather

PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. `seconds`: no new episode begins later; None: only the number of episodes counts."""

    seed: int
    episodes: int | None = 200
    seconds: float | None = None
    agents: int = 24
    keep: bool = False


def run(options: Options, say: Callable[[str], None]) -> Report:
    """Everything from an empty directory to the report. Raises CannotStart and Interrupted."""
    directory = Path(tempfile.mkdtemp(prefix="retire-cluster-torture-"))
    report = Report(options.seed, directory)
    try:
        asyncio.run(_Run(options, report, say).run())
    except asyncio.CancelledError:
        raise Interrupted(directory) from None
    finally:
        if not options.keep and report.passed:
            shutil.rmtree(directory, ignore_errors=True)
    return report


class _Run:
    def __init__(self, options: Options, report: Report, say: Callable[[str], None]) -> None:
        self._options = options
        self._report = report
        self._say = say
        self._server = Server(report.directory)
        lanes = max(1, options.agents // AGENTS)
        if options.episodes is not None:
            lanes = min(lanes, options.episodes)
        self._lanes = [Lane(number, report.directory, self._server) for number in range(1, lanes + 1)]
        self._numbers: Iterator[int] = itertools.count(1)
        self._began = 0.0

    async def run(self) -> None:
        whole = asyncio.current_task()
        assert whole is not None
        # Ended by a signal it ends its processes first, as Ctrl-C has it already.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)
        try:
            await self._server.start()
            for lane in self._lanes:
                await lane.start()
            await self._play()
        finally:
            await self._stop()
        self._conclude()

    async def _play(self) -> None:
        self._began = time.monotonic()
        background = [
            asyncio.create_task(part) for part in (self._weather(), self._server.watch(), self._progress())
        ]
        players = asyncio.ensure_future(self._players())
        try:
            await asyncio.wait([players, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in background:
                if task.done():
                    task.result()  # only ever ends by an error
            await players
        finally:
            players.cancel()
            for task in background:
                task.cancel()
            await asyncio.gather(players, *background, return_exceptions=True)
            self._report.seconds = time.monotonic() - self._began
            self._report.facts["episodes"] = f"{self._report.episodes} in {self._report.seconds:.0f} s"

    async def _players(self) -> None:
        await asyncio.gather(*(self._player(lane) for lane in self._lanes))

    async def _player(self, lane: Lane) -> None:
        while (number := self._next()) is not None:
            for story in self._report.add(await lane.play(draw(self._options.seed, number))):
                self._say(told(number, story))

    def _next(self) -> int | None:
        """The next episode's number while there is to be one."""
        late = self._options.seconds is not None and time.monotonic() - self._began > self._options.seconds
        number = next(self._numbers)
        enough = self._options.episodes is not None and number > self._options.episodes
        return None if late or enough else number

    async def _weather(self) -> None:
        """What happens to the server, under all episodes at once. Runs for ever."""
        for number in itertools.count(1):
            pause, kind, seconds = draw_weather(self._options.seed, number)
            await asyncio.sleep(pause)
            await (self._server.die(seconds) if kind == "server killed" else self._server.freeze(seconds))
            self._report.faults[kind] += 1

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            report, passed = self._report, time.monotonic() - self._began
            self._say(
                f"{passed:4.0f} s  {report.episodes} episodes, {report.counts['tasks']} tasks, "
                f"{sum(self._faults().values())} faults, {len(report.violations)} violations"
            )

    def _faults(self) -> Counter[str]:
        return sum((lane.met for lane in self._lanes), Counter(self._report.faults))

    async def _stop(self) -> None:
        for lane in self._lanes:
            await lane.stop()
        self._server.stop()

    def _conclude(self) -> None:
        self._report.faults = self._faults()
        if self._server.has_died:
            self._report.complain("server", "it ended by itself")
        verdict = self._server.database().integrity()
        if verdict != "ok":
            self._report.complain("server", f"the database is damaged: {verdict}")
        for log in sorted(self._report.directory.glob("*.log")):
            for line in evidence.errors(log):
                self._report.complain("logs", f"{log.name} has: {line[:300]}")


__all__ = ["CannotStart", "Interrupted", "Options", "Report", "run", "table"]
