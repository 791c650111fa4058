"""The clients of a chaos run: many at a time, each with one submission after the other, until all are done."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random

from retire_cluster.torture import evidence
from retire_cluster.torture.archive import Archive
from retire_cluster.torture.client import Batch, Client, NoAnswer, Owner
from retire_cluster.torture.history import Execution, Story
from retire_cluster.torture.scenario import PlannedTask, body, draw_group, expected
from retire_cluster.torture.shapes import TAG

CLIENTS = 64
LOOK_S = (0.5, 3.0)  # between two looks at a task
FOLLOW_S = (
    300.0  # a task that takes longer under fire is left to itself: that it ends is seen when all is quiet
)
LAST_LOOKS = 16  # at a time
_RETRYABLE = ("failed", "timeout", "cancelled")


class Errand:
    """One task of the crowd's, and its owner."""

    def __init__(self, nonce: str, key: str, plan: PlannedTask, client: Client, directory: Path) -> None:
        self.nonce = nonce
        self.left_alone = False
        self._plan = plan
        self._file = directory / f"{nonce}.evidence"
        argv = evidence.command(self._file, nonce, plan.seconds, plan.exit_code)
        self.owner = Owner(client, client, key, body(plan, nonce, TAG, argv))

    async def follow(self, chance: Random) -> str:
        """Look until it is over or FOLLOW_S are, cancel and retry as planned; which answer never came, if any."""
        if not self.owner.task_id:
            return ""  # refused: the checker says whether that was right
        try:
            async with asyncio.timeout(FOLLOW_S):
                await asyncio.gather(self._until_over(chance), self._cancel())
        except NoAnswer as error:
            return f"the end of {self.nonce}: {error}"
        except TimeoutError:
            self.left_alone = True
        return ""

    async def _until_over(self, chance: Random) -> None:
        status = await self._until_terminal(chance)
        if self._plan.retries and status in _RETRYABLE:
            await self.owner.retry()
            await self._until_terminal(chance)

    async def _until_terminal(self, chance: Random) -> str:
        while not (seen := await self.owner.look()).is_terminal:
            await asyncio.sleep(chance.uniform(*LOOK_S))
        return seen.status

    async def _cancel(self) -> None:
        if self._plan.cancel_after is not None:
            await asyncio.sleep(self._plan.cancel_after)
            await self.owner.cancel()

    async def last_look(self) -> str:
        """Once more, when all is quiet."""
        try:
            if self.owner.task_id:
                await self.owner.look()
        except NoAnswer as error:
            return f"a last look at {self.nonce}: {error}"
        return ""

    def executions(self) -> tuple[Execution, ...]:
        """What its work wrote down."""
        return evidence.executions(self._file)

    def story(self, archive: "Stored") -> Story:
        """Everything that is known of the task."""
        rows = archive.tasks.get(self.nonce, [])
        row = next((row for row in rows if row.id == self.owner.task_id), rows[0] if rows else None)
        return Story(
            nonce=self.nonce,
            task_type=self._plan.kind,
            timeout_s=self._plan.timeout_s,
            max_retries=self._plan.max_retries,
            at_most_once=self._plan.at_most_once,
            expected=expected(self._plan, self.nonce),
            asked=tuple(sorted(self.owner.asked, key=lambda item: item.sent_at)),
            seen=tuple(self.owner.seen),
            copies=len(rows),
            row=row,
            attempts=archive.attempts[row.id] if row else (),
            executions=self.executions(),
        )


class Stored:
    """The database's tasks and attempts, read once."""

    def __init__(self, archive: Archive) -> None:
        self.tasks = archive.tasks()
        self.attempts = archive.attempts()


class Crowd:
    """Clients that share the work of submitting so many tasks."""

    def __init__(self, seed: int, tasks: int, client: Client, directory: Path) -> None:
        self.errands: list[Errand] = []
        self.over = 0
        self.unsettled: list[str] = []
        self._seed = seed
        self._tasks = tasks
        self._client = client
        self._directory = directory
        self._numbers: Iterator[int] = itertools.count(1)

    async def run(self) -> None:
        """Submit all, and see each to its end."""
        await asyncio.gather(*(self._one_client() for _ in range(CLIENTS)))

    async def _one_client(self) -> None:
        while (left := self._tasks - len(self.errands)) > 0:
            number = next(self._numbers)
            group = self._group(number, draw_group(self._seed, number)[:left])
            chance = Random(f"{self._seed}/owner/{number}")  # noqa: S311 scenarios, not secrets
            self.unsettled += filter(None, await self._play(group, chance))
            self.over += len(group)

    def _group(self, number: int, plans: tuple[PlannedTask, ...]) -> list[Errand]:
        names = [f"{number}.{index}" for index in range(len(plans))]
        key = f"chaos-{number}"
        made = [
            Errand(nonce, key, plan, self._client, self._directory)
            for nonce, plan in zip(names, plans, strict=True)
        ]
        self.errands += made
        return made

    async def _play(self, group: list[Errand], chance: Random) -> list[str]:
        owners = [errand.owner for errand in group]
        sender = owners[0] if len(owners) == 1 else Batch(owners)
        twice = chance.random() < 0.2
        try:
            await sender.submit()
            found = await asyncio.gather(*(errand.follow(chance) for errand in group))
            if twice:
                await sender.submit_again()  # also long after its end it is the same task
        except NoAnswer as error:
            return [str(error)]
        return found

    async def last_looks(self) -> None:
        """At every task, when all is quiet."""
        turns = asyncio.Semaphore(LAST_LOOKS)

        async def look(errand: Errand) -> str:
            async with turns:
                return await errand.last_look()

        self.unsettled += filter(None, await asyncio.gather(*(look(errand) for errand in self.errands)))

    def running(self) -> str:
        """A process of the work that still lives, if any."""
        for errand in self.errands:
            for run in errand.executions():
                if run.is_alive:
                    return f"{errand.nonce} still runs: {run}"
        return ""

    def unanswered(self) -> int:
        """Calls whose answer never came."""
        return sum(asked.code is None for errand in self.errands for asked in errand.owner.asked)

    def stories(self, archive: Archive) -> tuple[Story, ...]:
        """Everything that is known, task by task."""
        stored = Stored(archive)
        return tuple(errand.story(stored) for errand in self.errands)
