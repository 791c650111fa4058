"""Who hurts the cluster: at random moments, at random places, and puts everything back on its feet."""

import asyncio
import itertools
import time
from collections.abc import Callable
from random import Random

from retire_cluster.torture.history import Trouble
from retire_cluster.torture.logbook import Struck
from retire_cluster.torture.shapes import Blow, Shape

MOST_AT_ONCE = 4  # victims that are down or just coming back
MOST_IN_VAIN = 8  # without a task that ended meanwhile: on a slow machine a cluster must get up to be hurt
WATCH_S = 0.5
# What came back is left alone for a while, at least for as long as it was away: only what works can be hurt.
RESTS_S = {"agent": (0.5, 3.0), "server": (3.0, 10.0)}


class Killer:
    """Draws blow after blow from the seed. What he hits is left alone until it is up again."""

    def __init__(self, seed: int, shape: Shape, pause_s: float) -> None:
        """`pause_s`: between two blows, on average."""
        self.struck: list[Struck] = []
        self.ended: list[tuple[float, str]] = []  # when, and what ended without having been killed
        self._seed = seed
        self._shape = shape
        self._pause_s = pause_s
        self._busy: set[str] = set()
        self._resting: set[str] = set()
        self._agents = frozenset(node.name for node in shape.nodes)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, count_ended: Callable[[], int]) -> None:
        """Hurt it until cancelled, as long as tasks end. Raises CannotStart when something does not come back."""
        kinds = self._shape.blows()
        ended, in_vain = 0, 0
        for number in itertools.count(1):
            chance = Random(f"{self._seed}/blow/{number}")  # noqa: S311 scenarios, not secrets
            await asyncio.sleep(chance.uniform(0, 2 * self._pause_s))
            self._collect()
            in_vain = in_vain + 1 if count_ended() == ended else 0
            ended = count_ended()
            blow = chance.choices(kinds, [kind.weight for kind in kinds])[0]
            victims = [name for name in blow.victims if name not in self._busy | self._resting]
            if victims and len(self._busy) < MOST_AT_ONCE and in_vain < MOST_IN_VAIN:
                victim = chance.choice(victims)
                self._busy.add(victim)
                self._under_way.add(asyncio.create_task(self._strike(blow, victim, chance)))

    async def _strike(self, blow: Blow, victim: str, chance: Random) -> None:
        since = time.time()
        await blow.victims[victim](chance.uniform(*blow.seconds), chance)
        self.struck.append(Struck(blow.kind, since, time.time()))
        self._resting.add(victim)
        self._busy.discard(victim)
        rest = chance.uniform(*RESTS_S["agent" if victim in self._agents else "server"])
        await asyncio.sleep(max(rest, time.time() - since))
        self._resting.discard(victim)

    def troubles(self) -> tuple[Trouble, ...]:
        """When the server side was hurt."""
        return tuple(
            Trouble(since=blow.since, until=blow.until)
            for blow in self.struck
            if not blow.kind.startswith("agent")
        )

    def _collect(self) -> None:
        for task in [task for task in self._under_way if task.done()]:
            self._under_way.discard(task)
            task.result()

    async def leave(self) -> None:
        """Wait until everything that is down is up again. Raises CannotStart."""
        await asyncio.gather(*self._under_way)

    async def watch(self) -> None:
        """Note what ends by itself, and start it again. Runs for ever. Raises CannotStart."""
        while True:
            for part in self._shape.parts.values():
                if part.name not in self._busy and part.exit_code is not None:
                    what = f"{part.name} ended by itself with exit code {part.exit_code}"
                    self.ended.append((time.time(), what))
                    self._busy.add(part.name)
                    await part.up()
                    self._busy.discard(part.name)
            for node in self._shape.nodes:
                if node.name not in self._busy:
                    node.revive()
            await asyncio.sleep(WATCH_S)
