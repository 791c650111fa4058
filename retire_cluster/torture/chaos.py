"""A chaos run: thousands of tasks on a cluster whose processes are killed all the while, judged as one history.

Where an episode of the torture tries one story of few tasks in every detail, here everything happens at once.
"""

import asyncio
import pprint
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from retire_cluster.torture.client import Client, NoAnswer
from retire_cluster.torture.crowd import Crowd
from retire_cluster.torture.history import History
from retire_cluster.torture.killer import Killer
from retire_cluster.torture.logbook import Logbook
from retire_cluster.torture.postgres import PostgresError
from retire_cluster.torture.processes import CannotStart
from retire_cluster.torture.redis_server import RedisError
from retire_cluster.torture.report import Interrupted, Report
from retire_cluster.torture.shapes import LEASE_S, SHAPES, Shape

PROGRESS_S = 10.0
SETTLE_S = 180.0  # after the last blow everything must be over by then; a restart alone may take 30 s


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. `pause_s`: between two blows, on average."""

    seed: int
    shape: str
    tasks: int = 5000
    agents: int = 8
    pause_s: float = 0.7
    keep: bool = False


def run(options: Options, say: Callable[[str], None]) -> Report:
    """Everything from an empty directory to the report. Raises CannotStart and Interrupted."""
    directory = Path(tempfile.mkdtemp(prefix="retire-cluster-chaos-"))
    report = Report(options.seed, directory)
    signal.signal(signal.SIGTERM, _leave)  # until the event loop takes it over
    try:
        with ExitStack() as stack:
            shape = SHAPES[options.shape](directory, options.agents, stack)
            asyncio.run(_Run(options, report, shape, say).run())
    except asyncio.CancelledError:
        raise Interrupted(directory) from None
    except (CannotStart, PostgresError, RedisError) as error:
        raise CannotStart(f"{error}; logs: {directory}") from None
    finally:
        if not options.keep and report.passed:
            shutil.rmtree(directory, ignore_errors=True)
    return report


def _leave(_: int, __: FrameType | None) -> None:
    raise asyncio.CancelledError


class _Run:
    def __init__(self, options: Options, report: Report, shape: Shape, say: Callable[[str], None]) -> None:
        self._options = options
        self._report = report
        self._shape = shape
        self._say = say
        self._killer = Killer(options.seed, shape, options.pause_s)
        self._unsettled: list[str] = []
        self._began = time.monotonic()

    async def run(self) -> None:
        whole = asyncio.current_task()
        assert whole is not None
        # Ended by a signal it ends its processes first, as Ctrl-C has it already.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)
        try:
            await self._shape.start()
            await self._within("devices to be online", self._all_online)
            crowd = await self._play()
            await self._settle(crowd)
            history = await asyncio.to_thread(self._history, crowd)
        finally:
            self._shape.stop()
        await asyncio.to_thread(self._conclude, crowd, history)

    # --- under fire -------------------------------------------------------------------------------------------

    async def _play(self) -> Crowd:
        """All tasks, while the killer is at work; a part that does not come back ends it."""
        self._began = time.monotonic()
        crowd = Crowd(self._options.seed, self._options.tasks, self._roaming(), self._report.directory)
        watching = asyncio.create_task(self._killer.watch())
        killing = asyncio.create_task(self._killer.run(lambda: crowd.over))
        telling = asyncio.create_task(self._progress(crowd))
        playing = asyncio.ensure_future(crowd.run())
        try:
            await asyncio.wait([playing, watching, killing, telling], return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, killing, telling):
                if task.done():
                    task.result()  # only ever ends by an error
            await playing
        finally:
            for task in (killing, watching, telling):
                task.cancel()
            playing.cancel()
            await asyncio.gather(playing, killing, watching, telling, return_exceptions=True)
        await self._killer.leave()
        self._report.seconds = time.monotonic() - self._began
        return crowd

    async def _progress(self, crowd: Crowd) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            passed, blows = time.monotonic() - self._began, len(self._killer.struck)
            self._say(f"{passed:4.0f} s  {crowd.over} of {self._options.tasks} tasks are over, {blows} blows")

    def _roaming(self) -> Client:
        return self._shape.client(Random(self._options.seed))  # noqa: S311 which server is asked is no secret

    # --- quiet ------------------------------------------------------------------------------------------------

    async def _settle(self, crowd: Crowd) -> None:
        """Nothing is hurt any more: everything must come to its end by itself."""
        await self._within("the end of every task", self._all_over)
        await self._within("devices to be back online", self._all_online)
        await self._within("disks to be clean", self._all_delivered)
        await self._within("processes to be gone", lambda: asyncio.to_thread(crowd.running))
        await self._within("Celery's workers", lambda: asyncio.to_thread(self._shape.idle_workers))
        await crowd.last_looks()

    async def _within(self, what: str, condition: Callable[[], Awaitable[str]]) -> None:
        """Wait until the condition has no objection; else it is noted."""
        deadline = time.monotonic() + SETTLE_S
        while objection := await condition():
            if time.monotonic() > deadline:
                self._unsettled.append(f"{what}: {objection}")
                return
            await asyncio.sleep(0.2)

    async def _all_over(self) -> str:
        left = await asyncio.to_thread(self._shape.archive.unfinished)
        return f"{left} are not over" if left else ""

    async def _all_online(self) -> str:
        for node in self._shape.nodes:
            node.revive()
            try:
                answer = await self._roaming().call("GET", f"devices/{node.name}/status")
            except NoAnswer as error:
                return str(error)
            if answer.code != 200 or not answer.data["is_online"]:
                return f"{node.name} is not online"
        return ""

    async def _all_delivered(self) -> str:
        for node in self._shape.nodes:
            for item in await asyncio.to_thread(node.outbox):
                return f"{node.name} still holds {item}"
        return ""

    # --- judging ----------------------------------------------------------------------------------------------

    def _history(self, crowd: Crowd) -> History:
        """Read while the database is still there."""
        nodes, archive = self._shape.nodes, self._shape.archive
        exits = [f"{node.name} to stay: it exited with {code}" for node in nodes for code in node.exits]
        unsettled = (*self._unsettled, *crowd.unsettled, *exits)
        return History(
            number=1,
            lease_s=LEASE_S,
            clock_s=self._shape.clock_s,
            stories=crowd.stories(archive),
            changes=archive.changes(),
            capacities=archive.capacities(),
            outages=tuple(item for node in nodes for item in node.outages),
            troubles=self._killer.troubles(),
            on_disk=tuple(item for node in nodes for item in node.on_disk),
            undelivered=tuple(item for node in nodes for item in node.outbox() if unsettled),
            unsettled=unsettled,
        )

    def _conclude(self, crowd: Crowd, history: History) -> None:
        report = self._report
        self._write_down(history, {violation.nonce for violation in report.add(history)})
        report.faults = Counter(blow.kind for blow in self._killer.struck)
        report.kinds = tuple(blow.kind for blow in self._shape.blows())
        logs = self._read_logs()
        for line in logs.complaints:
            report.complain("logs", line)
        report.facts |= {
            "shape": f"{self._options.shape}, {self._options.agents} agents",
            "seconds": f"{report.seconds:.0f} under fire",
            "calls not answered": crowd.unanswered(),
            "tasks left to themselves": sum(errand.left_alone for errand in crowd.errands),
            "starts made again": sum(part.restarts for part in self._shape.parts.values()),
            "log lines excused": f"{logs.excused.total()}, by outages they name",
            "deadlocks dissolved": logs.deadlocks,
        }

    def _write_down(self, history: History, nonces: set[str]) -> None:
        """Keep what is known of the tasks that a promise was broken to: PostgreSQL's rows are gone when it ends."""
        with (self._report.directory / "stories.txt").open("w") as file:
            for story in history.stories:
                if story.nonce in nonces:
                    rows = {story.row.id if story.row else "", *(attempt.id for attempt in story.attempts)}
                    pprint.pp(story, file)
                    pprint.pp([change for change in history.changes if change.id in rows], file)

    def _read_logs(self) -> Logbook:
        found = Logbook()
        for moment, what in self._killer.ended:
            found.end(what, moment, self._killer.struck)
        for file in sorted(self._report.directory.glob("*.log")):
            found.read(file.name, file.read_text(errors="replace").splitlines(), self._killer.struck)
        return found
