"""Agents that run for a purpose: to join and end again, to work with remembered settings, to leave the cluster."""

import asyncio
import logging
from dataclasses import replace

from retire_cluster.agent.address import Address
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.keeping import settings
from retire_cluster.agent.runtime import RENEWED, Runtime
from retire_cluster.agent.session import Session
from retire_cluster.agent.verdict import Verdict
from retire_cluster.agent.workbench import Workbench
from retire_cluster.protocol.messages import Leave

LEAVING = "the device is leaving the cluster"
NO_ANSWER = "the gateway does not confirm it; is it of an older version?"
_LOOK_S = 0.05

logger = logging.getLogger(__name__)


class Worker(Runtime):
    """The usual agent: it remembers the settings with which it joined, for `keep`, `doctor` and `--leave`."""

    def __init__(self, config: AgentConfig, log_file: str | None = None, hint: str = "") -> None:
        """`hint` is for the owner, and said once the device has joined."""
        super().__init__(config)
        self._hint = hint
        self._settings = settings.settings_of(config, log_file)
        self._state_dir = config.state_dir

    async def joined(self, session: Session) -> None:
        """Remember the settings; a disk that refuses costs only that."""
        try:
            await asyncio.to_thread(settings.save, self._state_dir, self._settings)
        except OSError as error:
            logger.warning("cannot remember the settings (%s)", error.strerror)
        if self._hint:
            logger.info("%s", self._hint)
            self._hint = ""


class Joiner(Worker):
    """Joins, then stops."""

    async def joined(self, session: Session) -> None:
        """That was it."""
        await super().joined(session)
        self.stop()


class NotReached(Exception):
    """No gateway took the device's leave; the message says why."""


class Leaver(Runtime):
    """Takes no task, delivers what is finished, leaves the cluster. run() raises AgentExit with the last word:
    code 0 when the cluster has no such device any more. Raises NotReached when no gateway gave one."""

    def __init__(self, config: AgentConfig) -> None:
        no_limits = replace(config, pause_on_battery=None, pause_above=None)
        super().__init__(replace(no_limits, handlers=(), task_types=(), internet_probes=()))
        self._timing = config.timing
        self._left_to_try = len(config.join)
        self._departure: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Ask each gateway, until one gives its word."""
        try:
            await super().run()
        finally:
            if self._departure is not None:
                self._departure.cancel()

    def prepare(self, workbench: Workbench) -> None:
        """No task may come any more."""
        self._bench = workbench
        workbench.pause(LEAVING)

    async def joined(self, session: Session) -> None:
        """Leave, beside the session, which still has to begin its work."""
        self._departure = asyncio.create_task(self._depart(session))

    async def _depart(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timing.deliver_s
        while self._bench.has_unacknowledged and loop.time() < until:
            await asyncio.sleep(_LOOK_S)
        session.send(Leave())
        await asyncio.sleep(self._timing.leave_s)
        session.end(NO_ANSWER)

    async def obey(self, verdict: Verdict, address: Address) -> None:
        """Each gateway is asked once."""
        if self._departure is not None:
            self._departure.cancel()
        if verdict.forget:
            raise AgentExit(ExitCode.STOPPED, verdict.reason)
        if verdict.exit_code is not None:
            raise AgentExit(verdict.exit_code, verdict.reason)
        if verdict.reason == RENEWED:
            return  # the same gateway again, with the certificate it has now
        self._left_to_try -= 1
        if self._left_to_try <= 0:
            raise NotReached(f"{address}: {verdict.reason}")
