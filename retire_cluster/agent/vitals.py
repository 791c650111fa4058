"""The device's facts, gathered without ever blocking the event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from retire_cluster.agent.address import Address
from retire_cluster.agent.host import Host
from retire_cluster.agent.internet import has_internet
from retire_cluster.agent.metrics import Sampler
from retire_cluster.agent.probe import detect
from retire_cluster.protocol.messages import Capabilities, Metrics

FRESH_S = 0.5  # metrics younger than this are good enough for anyone who asks
INTERNET_AGAIN_S = 300.0


class Vitals:
    """Capabilities, found once, and current metrics."""

    def __init__(self, host: Host, data_dir: Path, probes: Sequence[Address]) -> None:
        self._host = host
        self._data_dir = data_dir
        self._probes = probes
        self._sampler = Sampler(host, data_dir)
        self._sampling = asyncio.Lock()
        self._sampled_at = float("-inf")
        self._metrics = Metrics()
        self._detected: Capabilities | None = None
        self._internet: bool | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What is known so far; call detect() before."""
        assert self._detected is not None, "detect() comes first"
        if self._internet is None:
            return self._detected
        unknown = {name: why for name, why in self._detected.unknown.items() if name != "has_internet"}
        return replace(self._detected, has_internet=self._internet, unknown=unknown)

    async def detect(self) -> None:
        """Run all probes but the internet's."""
        self._detected = await asyncio.to_thread(detect, self._host, self._data_dir)

    async def find_internet(self) -> None:
        """Look until the internet is reached; in the meantime `capabilities` tells the last answer."""
        while self._probes:
            self._internet = await has_internet(self._probes)
            if self._internet:
                return
            await asyncio.sleep(INTERNET_AGAIN_S)

    async def metrics(self) -> Metrics:
        """Current metrics, shared by all who ask at the same time."""
        loop = asyncio.get_running_loop()
        async with self._sampling:
            if loop.time() - self._sampled_at > FRESH_S:
                self._metrics = await asyncio.to_thread(self._sampler.sample)
                self._sampled_at = loop.time()
            return self._metrics

    async def snapshot(self) -> tuple[Capabilities, Metrics]:
        return self.capabilities, await self.metrics()


async def cancel_and_wait(*tasks: "asyncio.Task[None]") -> None:
    """End background tasks; what one raised before is raised here, so that no failure goes unseen."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
