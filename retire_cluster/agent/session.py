"""One connection's life: register, welcome, then work and heartbeats until it ends."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator

from retire_cluster.agent.config import Timing
from retire_cluster.agent.link import Connection
from retire_cluster.agent.metrics import boot_clock
from retire_cluster.agent.vitals import cancel_and_wait
from retire_cluster.agent.workbench import WORK, Workbench
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import (
    Accepted,
    Config,
    Error,
    Goodbye,
    Heartbeat,
    Message,
    Metrics,
    Ping,
    Pong,
    Pulse,
    Register,
    Welcome,
)

MAX_BAD_FRAMES = 10
ACCEPTED_S = 0.01  # what a task that ends within it saves: a frame, and a step of the server's
_WATCH_S = 5.0  # the loop's clock stands still in suspend: look at the other one this often

logger = logging.getLogger(__name__)
Ending = Goodbye | str  # what the gateway said last, or why the connection was lost


class Session:
    """A connection in use; run() is called once."""

    def __init__(
        self,
        connection: Connection,
        workbench: Workbench,
        metrics: Callable[[], Awaitable[Metrics]],
        timing: Timing,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._connection = connection
        self._workbench = workbench
        self._metrics = metrics
        self._timing = timing
        self._clock = clock
        self._heard_at = clock()
        self._pulse: Pulse | None = None
        self._bad_frames = 0
        self._outgoing: list[Message] = []
        self._has_outgoing = asyncio.Event()
        self._has_news = asyncio.Event()  # for a heartbeat now: other settings, another reason to pause
        self._told_pause: str | None = None
        self._early: list[Message] | None = []  # work that came before we were ready for it
        loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[Welcome] = loop.create_future()
        self._ending: asyncio.Future[Ending] = loop.create_future()

    # --- for the runtime ------------------------------------------------------------------------------------

    async def run(self, register: Register, on_welcome: Callable[[Welcome], Awaitable[None]]) -> Ending:
        """Hold the connection until it ends; `on_welcome` completes before anything else is done."""
        sender = asyncio.create_task(self._keep_sending())
        try:
            self._connection.start(self)
            self._told_pause = register.paused_reason
            self.send(register)
            welcome = await self._await_welcome()
            if welcome is not None:
                await on_welcome(welcome)
                await self._work()
            return await self._ending
        finally:
            self._workbench.detach()
            await cancel_and_wait(sender)
            await self._connection.close(patience_s=0.2)

    def end(self, ending: Ending) -> None:
        """End the session; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def send(self, message: Message) -> None:
        """Queue a message; all that is queued in one turn of the loop leaves in as few frames as possible.

        That a task was accepted waits for its result for a moment: both then cost one frame and, at the server, one
        step of work. Most tasks of a busy cluster are short.
        """
        self._outgoing.append(message)
        if isinstance(message, Accepted):
            asyncio.get_running_loop().call_later(ACCEPTED_S, self._has_outgoing.set)
        else:
            self._has_outgoing.set()

    async def farewell(self, goodbye: Goodbye) -> None:
        """Send what is queued and a last message, then close."""
        self._workbench.detach()
        self.send(goodbye)
        await self._flush()
        await self._connection.close(patience_s=self._timing.farewell_s)
        self.end("stopped")

    # --- for the connection ---------------------------------------------------------------------------------

    def frame_received(self, text: str) -> None:
        self._heard_at = self._clock()
        try:
            messages = codec.decode_from_gateway(text)
        except codec.BadFrame as error:
            self._bad_frame(error)
            return
        work = [message for message in messages if isinstance(message, WORK)]
        if self._early is None:
            self._workbench.receive(work)
        else:
            self._early.extend(work)
        for message in messages:
            self._control(message)

    def link_lost(self, reason: str) -> None:
        self.end(reason)

    # --- pieces ---------------------------------------------------------------------------------------------

    async def _await_welcome(self) -> Welcome | None:
        """The welcome, also when the session ended right after it; None when there was none."""
        timeout_s = self._timing.welcome_s
        await asyncio.wait(
            (self._welcome, self._ending), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if self._welcome.done():
            return self._welcome.result()
        self.end(f"the gateway did not answer the registration within {timeout_s:g} s")
        return None

    async def _work(self) -> None:
        self._workbench.attach(self.send, self._has_news.set)
        early, self._early = self._early or [], None
        self._workbench.receive(early)
        background = [asyncio.create_task(part) for part in (self._beat(), self._watch())]
        for task in background:
            task.add_done_callback(self._background_ended)
        try:
            await self._ending
        finally:
            await cancel_and_wait(*background)

    def _background_ended(self, task: "asyncio.Task[None]") -> None:
        """A failing heartbeat must not leave a silent connection behind."""
        if not task.cancelled() and task.exception() is not None:
            self.end("an internal error")

    async def _beat(self) -> None:
        """Heartbeats each interval; the first one at a random point in it, so that a fleet does not beat as one."""
        share = random.random()  # noqa: S311 - a phase, not a secret
        while True:
            assert self._pulse is not None
            await self._pause(self._pulse.interval_s * share)
            share = 1.0
            metrics = await self._metrics()
            self._told_pause = self._workbench.paused_reason
            self.send(Heartbeat(metrics=metrics, held=self._workbench.held(), paused_reason=self._told_pause))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond a change of the settings, and not with an untold reason to pause."""
        self._has_news.clear()
        if self._workbench.paused_reason != self._told_pause:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._has_news.wait()
        except TimeoutError:
            return

    async def _watch(self) -> None:
        """End the session when the gateway is silent: heartbeats are always answered."""
        while True:
            assert self._pulse is not None
            allowed = self._pulse.interval_s + self._timing.silence_margin_s
            left = self._heard_at + allowed - self._clock()
            if left <= 0:
                self.end(f"nothing was heard from the gateway for {allowed:g} s")
                return
            await asyncio.sleep(min(left, _WATCH_S))

    async def _keep_sending(self) -> None:
        while True:
            await self._has_outgoing.wait()
            await self._flush()

    async def _flush(self) -> None:
        self._has_outgoing.clear()
        messages, self._outgoing = self._outgoing, []
        for frame in codec.encode(merge_accepted(messages)):
            await self._connection.send(frame)

    def _bad_frame(self, error: codec.BadFrame) -> None:
        """Say what was wrong; a peer that keeps sending nonsense is left."""
        self._bad_frames += 1
        logger.warning("the gateway sent a frame that is not understood (%s)", error)
        self.send(Error(reason=error.reason[:500], field=error.field[:255]))
        if self._bad_frames >= MAX_BAD_FRAMES:
            self.end("the gateway keeps sending what is not understood; are both sides up to date?")

    def _control(self, message: Message) -> None:
        match message:
            case Welcome() if not self._welcome.done():
                self._pulse = message.pulse  # here, since a newer one may follow in the same frame
                self._welcome.set_result(message)
            case Goodbye():
                self.end(message)
            case Ping():
                self.send(Pong(nonce=message.nonce))
            case Config():
                self._pulse = message.pulse
                self._has_news.set()
            case Error():
                logger.warning(
                    "the gateway did not understand a message: %s %s", message.field, message.reason
                )


def merge_accepted(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages with all `accepted` made one, at the place of the first: none then comes after its result."""
    ordered = list(messages)
    accepted = [
        attempt for message in ordered if isinstance(message, Accepted) for attempt in message.attempts
    ]
    pending = tuple(dict.fromkeys(accepted))
    for message in ordered:
        if not isinstance(message, Accepted):
            yield message
        elif pending:
            for start in range(0, len(pending), 4096):
                yield Accepted(attempts=pending[start : start + 4096])
            pending = ()
