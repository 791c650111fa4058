"""Steady work for a cluster that is hurt meanwhile: clients with one task after the other, until told enough."""

import asyncio
import itertools
from pathlib import Path
from random import Random

from retire_cluster.torture.archive import Archive
from retire_cluster.torture.client import Client, NoAnswer
from retire_cluster.torture.crowd import Errand, Stored
from retire_cluster.torture.history import Story
from retire_cluster.torture.scenario import PlannedTask
from retire_cluster.torture.shapes import Shape

_SHARE_OF_COMMANDS = 0.75  # the rest is echo
_WORK_S = (0.2, 2.0)


class Load:
    """`run()` until `enough()`; then every task's story. `unsettled` has the answers that never came."""

    def __init__(self, shape: Shape, directory: Path, clients: int) -> None:
        self.unsettled: list[str] = []
        self._shape = shape
        self._directory = directory
        self._clients = clients
        self._errands: list[Errand] = []
        self._numbers = itertools.count(1)
        self._is_enough = False

    @property
    def client(self) -> Client:
        return self._shape.client(Random(1))

    async def run(self) -> None:
        """Submit, and see each task to its end."""
        await asyncio.gather(*(self._one_client() for _ in range(self._clients)))

    def enough(self) -> None:
        """Nothing new; run() ends once everything is over."""
        self._is_enough = True

    def stories(self, archive: Archive) -> tuple[Story, ...]:
        stored = Stored(archive)
        return tuple(errand.story(stored) for errand in self._errands)

    async def _one_client(self) -> None:
        client = self.client
        while not self._is_enough:
            number = next(self._numbers)
            chance = Random(f"load/{number}")
            errand = Errand(str(number), f"load-{number}", _plan(chance), client, self._directory)
            self._errands.append(errand)
            try:
                await errand.owner.submit()
            except NoAnswer as error:
                self.unsettled.append(str(error))
                continue
            self.unsettled += filter(None, [await errand.follow(chance)])


def _plan(chance: Random) -> PlannedTask:
    if chance.random() > _SHARE_OF_COMMANDS:
        return PlannedTask(at=0, kind="echo")
    return PlannedTask(at=0, kind="command", seconds=chance.uniform(*_WORK_S))
