"""The server side of a scratch cluster under chaos: programs that are killed and come back."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from retire_cluster.torture.processes import CannotStart, Managed

LOOK_S = 0.2  # between two looks at whether a part is up
UP_S = 180.0  # for a program to serve while everything around it is killed, on a busy machine
STAYS_S = 4.0  # a program that answers nobody counts as up when it stayed for so long


class Part:
    """One program with all that it starts. `is_up` says that it serves; None: nobody can ask it."""

    def __init__(
        self, name: str, process: Managed, is_up: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self.name = name
        self.restarts = 0  # starts that met an outage of something else, and were made again
        self._process = process
        self._is_up = is_up

    async def up(self) -> None:
        """Start it and return once it serves; one that ends meanwhile is started again. Raises CannotStart."""
        deadline = time.monotonic() + UP_S
        self._process.start()
        began = time.monotonic()
        while not await self._serves(began):
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} did not start within {UP_S:g} s")
            if self._process.exit_code is not None:
                self.restarts += 1
                self._process.start()
                began = time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def _serves(self, began: float) -> bool:
        if self._process.exit_code is not None:
            return False
        if self._is_up is None:
            return time.monotonic() - began > STAYS_S
        return await self._is_up()

    def stop(self) -> None:
        """End it and all that it started, for good."""
        self._process.retire()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.exit_code

    async def die(self, seconds: float, _: Random) -> None:
        """kill -9 of the program alone, nothing for a while, a new start."""
        self._process.strike()
        await asyncio.sleep(seconds)
        await self.up()

    async def lose_child(self, _: float, chance: Random) -> None:
        """kill -9 of one of the processes it started, which it has to replace by itself."""
        self._process.strike_child(chance)

    async def freeze(self, seconds: float, _: Random) -> None:
        """SIGSTOP, SIGCONT after a while."""
        self._process.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.thaw()
