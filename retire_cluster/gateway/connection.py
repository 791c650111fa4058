"""One agent's WebSocket in the event loop: frames in, validated, to the committer; messages out, batched."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from retire_cluster.gateway import budget
from retire_cluster.gateway.budget import Budget
from retire_cluster.gateway.guard import REGISTER_WITHIN_S, Guard
from retire_cluster.gateway.inputs import Closed, Input, Opened, Received
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import Assign, Config, Error, Goodbye, Message, Register, Welcome

MAX_BAD_FRAMES = 5  # per connection; after that it is closed
MAX_FRAMES_IN_FLIGHT = 8  # read, but not committed yet; beyond it the socket is not read
MAX_QUEUED_OUT = 20_000  # messages an agent may leave unread before it is cut off
MAX_QUEUED_PAYLOADS = 32 * 1024 * 1024  # characters of payloads, likewise
CALM_S = 5.0  # between heartbeats of a device of which one may be read a little later
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
NORMAL = 1000
_TRY_LATER = {"full", "unavailable", "stopping"}
_AS_WANTED = {"replaced", "left"}
_FAILED_JOIN = {"bad_token", "bad_secret"}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Connection:
    """Implements sessions.Link. Everything here runs in the event loop's thread."""

    def __init__(
        self,
        address: str,
        receive: Receive,
        send: Send,
        submit: Callable[[Input], None],
        trust: Callable[[], None],
        guard: Guard,
    ) -> None:
        self.address = address
        self.last_heard = time.monotonic()
        self.is_calm = False  # its heartbeats are far apart
        self._receive = receive
        self._send = send
        self._submit = submit
        self._trust = trust  # from now on, read frames of full size
        self._guard = guard
        self._budget: Budget | None = None  # once the device proved who it is
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._queued_payloads = 0  # characters
        self._in_flight = asyncio.Semaphore(MAX_FRAMES_IN_FLIGHT)
        self._closing: Goodbye | None = None
        self._bad_frames = 0
        self._orderly = ""

    # --- Link -------------------------------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """Queue messages; an agent that reads none of them is cut off."""
        if self._closing is not None:
            return
        for message in messages:
            if isinstance(message, (Welcome, Config)):
                self.is_calm = message.pulse.interval_s >= CALM_S
            if isinstance(message, Welcome):
                self._trust()
                self._budget = self._guard.budgets.of(message.device_id)
            self._outgoing.put_nowait(message)
            self._queued_payloads += _payload_size(message)
        if self._outgoing.qsize() > MAX_QUEUED_OUT or self._queued_payloads > MAX_QUEUED_PAYLOADS:
            self.close(Goodbye(code="protocol_error", reason="the agent does not read what it is sent"))

    def close(self, goodbye: Goodbye) -> None:
        """Say why after everything queued before, then close."""
        if self._closing is None:
            self._closing = goodbye
            self._outgoing.put_nowait(goodbye)

    def frame_done(self) -> None:
        self._in_flight.release()

    @property
    def refused_join(self) -> bool:
        """It is being closed because its token or secret was wrong."""
        return self._closing is not None and self._closing.code in _FAILED_JOIN

    # --- life of the connection -------------------------------------------------------------------------------

    async def serve(self) -> None:
        """From the accepted handshake to the end of the connection."""
        writer = asyncio.create_task(self._write())
        try:
            self._guard.entered(self.address)
            try:
                register = await self._first_message()
            finally:
                self._guard.left(self.address)
            if register is not None:
                self._submit(Opened(self, register))
                await self._until_over(writer)
                self._submit(self._closed())
            if self.refused_join:
                self._guard.failed(self.address)
        finally:
            await self._end(writer)

    def _closed(self) -> Closed:
        if self._orderly:
            return Closed(self, self._orderly, orderly=True)
        if self._closing is not None and self._closing.code == "stopping":
            return Closed(self, "the gateway was stopped", stopping=True)
        if self._closing is not None and self._closing.code == "protocol_error":
            return Closed(self, f"cut off: {self._closing.reason}")
        return Closed(self, "the connection was lost")

    async def _until_over(self, writer: asyncio.Task[None]) -> None:
        """Read until the agent is gone, or until the goodbye to it is written."""
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reader.cancel()

    async def _end(self, writer: asyncio.Task[None]) -> None:
        if self._closing is None:
            writer.cancel()
        try:
            await asyncio.wait_for(writer, REGISTER_WITHIN_S)
        except (TimeoutError, asyncio.CancelledError, OSError):
            return

    async def _first_message(self) -> Register | None:
        try:
            frame = await asyncio.wait_for(self._next_frame(), REGISTER_WITHIN_S)
        except TimeoutError:
            self._refuse(f"no registration within {REGISTER_WITHIN_S:g} s")
            return None
        if frame is None:
            return None
        if len(frame) > codec.MAX_FIRST_FRAME_BYTES:
            self._refuse(f"the first frame may have {codec.MAX_FIRST_FRAME_BYTES} bytes")
            return None
        try:
            messages = codec.decode_from_agent(frame)
        except codec.BadFrame as error:
            self._refuse(str(error))
            return None
        if len(messages) == 1 and isinstance(messages[0], Register):
            return messages[0]
        self._refuse("the first message must be 'register', alone in its frame")
        return None

    def _refuse(self, reason: str) -> None:
        self._complain("refused %s: %s", self.address, reason, action="register")
        self.close(Goodbye(code="protocol_error", reason=reason[:500]))

    async def _read(self) -> None:
        while self._closing is None:
            await self._in_flight.acquire()
            frame = await self._next_frame()
            if frame is None:
                return
            self.last_heard = time.monotonic()
            if self._is_over(frames=1, bytes=len(frame), rows=0):
                return
            messages = self._decoded(frame)
            if self._is_over(rows=budget.rows_in(messages)):
                return
            goodbye = next((item for item in messages if isinstance(item, Goodbye)), None)
            if messages:
                self._submit(
                    Received(self, tuple(item for item in messages if not isinstance(item, Goodbye)))
                )
            else:
                self._in_flight.release()
            if goodbye is not None:
                self._orderly = f"the agent said goodbye: {goodbye.reason or goodbye.code}"
                return

    def _is_over(self, **costs: int) -> bool:
        """Whether the device sent too much lately; then it is cut off."""
        over = self._budget.spend(self.last_heard, **costs) if self._budget is not None else None
        if over is None:
            return False
        self._complain("cut off %s: %s", self.address, over, action="budget")
        self.close(Goodbye(code="protocol_error", reason=over))
        return True

    def _complain(self, message: str, *args: object, action: str) -> None:
        self._guard.complaints.log(self.address, message, *args, action=action)

    def _decoded(self, frame: str | bytes) -> list[Message]:
        """The frame's messages; none, and an error message to the agent, when it is unusable."""
        try:
            return budget.within_frame(codec.decode_from_agent(frame))
        except codec.BadFrame as error:
            self._bad_frames += 1
            self._complain(
                "bad frame %d of %d from %s: %s",
                self._bad_frames,
                MAX_BAD_FRAMES,
                self.address,
                error,
                action="frame",
            )
            self.send([Error(reason=error.reason[:500], field=error.field[:255])])
            if self._bad_frames >= MAX_BAD_FRAMES:
                self.close(Goodbye(code="protocol_error", reason=f"{MAX_BAD_FRAMES} unusable frames"))
            return []

    async def _next_frame(self) -> str | bytes | None:
        """The next text or binary frame; None when the connection is gone."""
        event = await self._receive()
        if event["type"] != "websocket.receive":
            return None
        text = event.get("text")
        return text if text is not None else bytes(event.get("bytes") or b"")

    async def _write(self) -> None:
        while True:
            messages = [await self._outgoing.get()]
            while not self._outgoing.empty():
                messages.append(self._outgoing.get_nowait())
            self._queued_payloads -= sum(map(_payload_size, messages))
            for frame in codec.encode(messages):
                await self._send({"type": "websocket.send", "text": frame})
            if isinstance(messages[-1], Goodbye):
                await self._send({"type": "websocket.close", "code": _close_code(messages[-1])})
                return


def _payload_size(message: Message) -> int:
    return len(message.payload_json) if isinstance(message, Assign) else 0


def _close_code(goodbye: Goodbye) -> int:
    if goodbye.code in _TRY_LATER:
        return TRY_AGAIN_LATER
    return NORMAL if goodbye.code in _AS_WANTED else POLICY_VIOLATION
