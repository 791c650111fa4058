"""Looks after the device by its owner's limits: sensors in, a reason to take no new task out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from retire_cluster.agent.metrics import boot_clock
from retire_cluster.agent.policy import Limits, Pause, judge
from retire_cluster.protocol.messages import Metrics

logger = logging.getLogger(__name__)


class Care:
    """The limits of one agent. `pause` is told the reason, or None, whenever it changes."""

    def __init__(
        self,
        limits: Limits,
        metrics: Callable[[], Awaitable[Metrics]],
        pause: Callable[[str | None], None],
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._tell = pause
        self._clock = clock
        self._pause = Pause()

    async def look(self) -> None:
        """Hold the sensors against the limits once."""
        before = self._pause.reason
        self._pause = judge(self._limits, self._pause, await self._metrics(), self._clock())
        reason = self._pause.reason
        if reason != before:
            logger.info("no new task is taken: %s", reason) if reason else logger.info(
                "tasks are taken again"
            )
            self._tell(reason)

    async def watch(self, every_s: float) -> None:
        """Look for ever, apart from the heartbeats, which may be minutes apart; no limit, no look."""
        while self._limits != Limits():
            await asyncio.sleep(every_s)
            await self.look()

    async def begin(self) -> None:
        """The look before the first connection: a paused device gets no offer. Names limits that cannot work."""
        if self._limits == Limits():
            return
        metrics = await self._metrics()
        if self._limits.battery_percent is not None and metrics.battery_percent is None:
            logger.warning("--pause-on-battery: this device does not tell the charge of a battery now")
        if self._limits.celsius is not None and metrics.temperature_c is None:
            logger.warning("--pause-above: this device does not tell a temperature now")
        await self.look()
