"""Simulated devices of the stock Channels project: they connect, beat and come back as ours do."""

import json

from benchmarks.harness.agents import Agent, keep

CAPABILITIES = {"platform": "linux", "hostname": "simulated", "cpu_count": 4, "memory_total_mb": 4096}
METRICS = {"cpu_percent": 3.0, "memory_percent": 40.0, "memory_available_mb": 2048}
INTERVAL_S = 30.0
_BEAT = json.dumps({"type": "heartbeat", "metrics": METRICS})


class StockAgent(Agent):
    """One device."""

    async def introduce(self) -> None:
        about = {"device_id": self.name, "capabilities": CAPABILITIES, "metrics": METRICS}
        await self.send_text(json.dumps({"type": "register", **about}))

    def frame_received(self, text: str) -> None:
        if "welcome" in text:
            self.is_welcome(INTERVAL_S)

    def heartbeat(self) -> None:
        keep(self.send_text(_BEAT))
        self.schedule(self.interval_s)
