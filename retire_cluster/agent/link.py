"""One WebSocket connection to a gateway: websockets' sans-I/O protocol on an asyncio transport.

Used instead of websockets.asyncio because the certificate must be judged before the first byte is sent, frames
are handed over without a queue, and it saves 3 MB.
"""

import asyncio
import hashlib
import logging
import socket
import ssl
from typing import Any, Protocol, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from retire_cluster.agent.address import Address, Link
from retire_cluster.agent.explain import explain, explain_refusal
from retire_cluster.protocol.codec import MAX_FRAME_BYTES

USER_TIMEOUT_MS = 20_000  # unacknowledged bytes end a dead connection after this
WRITE_BUFFER_BYTES = 64 * 1024
CLOSE_PATIENCE_S = 5.0  # for the peer's part of a closing handshake that we began
PATH = "/node"
# At DEBUG websockets logs whole frames, and the first one holds the secret.
_quiet = logging.getLogger(f"{__name__}.frames")
_quiet.setLevel(logging.WARNING)


class LinkError(Exception):
    """There is no connection; the message says why and, where a person can help, what to do."""


class OtherCertificate(LinkError):
    """The peer shows another certificate than the pinned one; nothing was sent."""


class Receiver(Protocol):
    """Who gets what a connection brings, called in the event loop."""

    def frame_received(self, text: str) -> None:
        """One whole text frame."""

    def link_lost(self, reason: str) -> None:
        """The connection is over; called exactly once, nothing follows."""


class Connection(asyncio.Protocol):
    """An open WebSocket. Frames go to the receiver set by start(); before that they wait."""

    def __init__(self, address: Address) -> None:
        self._websocket = ClientProtocol(
            parse_uri(f"ws://{_authority(address)}{PATH}"), max_size=MAX_FRAME_BYTES, logger=_quiet
        )
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._upgraded: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._receiver: Receiver | None = None
        self._parts: list[bytes] = []
        self._waiting: list[str] = []

    # --- for the agent --------------------------------------------------------------------------------------

    async def upgrade(self) -> None:
        """The WebSocket handshake. Raises LinkError."""
        self._websocket.send_request(self._websocket.connect())
        self._flush()
        await self._upgraded

    def start(self, receiver: Receiver) -> None:
        """Hand over frames from now on."""
        self._receiver = receiver
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            receiver.frame_received(text)
        if self._closed.done():
            receiver.link_lost("the connection was closed")

    async def send(self, text: str) -> None:
        """Write a frame; waits while the peer does not read. Void on a closed connection."""
        await self._writable.wait()
        if self._is_open:
            self._websocket.send_text(text.encode())
            self._flush()

    async def close(self, patience_s: float) -> None:
        """The closing handshake, then the socket; after `patience_s` without an answer the socket at once."""
        if self._is_open:
            self._websocket.send_close(1000)
            self._flush()
        await asyncio.wait([self._closed], timeout=patience_s)
        self.abort()

    def abort(self) -> None:
        """Close the socket now and hear nothing more from it."""
        self._receiver = None
        self._upgraded.cancel()
        if self._transport is not None:
            self._transport.abort()

    def certificate_pin(self) -> str | None:
        """SHA-256 of the peer's certificate, in hexadecimal; None on a plain link."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        der = tls.getpeercert(binary_form=True) if tls else None
        return hashlib.sha256(der).hexdigest() if der else None

    # --- for asyncio ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do everything but say so.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        _notice_dead_peers(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self._websocket.reader.eof:
            return
        self._websocket.receive_data(data)
        self._progress()

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        self._progress()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._close_reason(exc)
        if not self._upgraded.done():
            self._upgraded.set_exception(LinkError(reason))
        self._closed.set_result(None)
        self._writable.set()
        if self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.link_lost(reason)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- pieces ---------------------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        """Whether anything can be sent. An end without a word is known here before the socket says it is closed."""
        return not self._closed.done() and self._websocket.state.name == "OPEN"

    def _progress(self) -> None:
        """Act on what the protocol made of the bytes: finish the handshake, hand frames over, answer."""
        events = self._websocket.events_received()
        self._flush()
        self._judge_handshake()
        for event in events:
            if isinstance(event, Frame):
                self._frame(event)

    def _judge_handshake(self) -> None:
        if self._upgraded.done():
            return
        error = self._websocket.handshake_exc
        if error is not None:
            self._upgraded.set_exception(LinkError(explain_refusal(error)))
        elif self._is_open:
            self._upgraded.set_result(None)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # the protocol has answered pings and closes already
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        data, self._parts = b"".join(self._parts), []
        text = data.decode(errors="replace")  # what is not UTF-8 fails as JSON or as a value, with a reason
        if self._receiver is not None:
            self._receiver.frame_received(text)
        elif not self._closed.done():
            self._waiting.append(text)

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        data = self._websocket.data_to_send()
        if whole := b"".join(data):
            self._transport.write(whole)
        if b"" in data or self._websocket.close_rcvd is not None:
            self._transport.close()
        elif self._websocket.close_expected():
            asyncio.get_running_loop().call_later(CLOSE_PATIENCE_S, self._transport.abort)

    def _close_reason(self, exc: Exception | None) -> str:
        if exc is not None:
            return explain(exc)
        if self._websocket.close_sent is not None and self._websocket.parser_exc is not None:
            return f"the gateway sent something broken ({self._websocket.parser_exc})"
        close = self._websocket.close_rcvd
        if close is not None:
            return f"the gateway closed the connection ({close.code}{': ' if close.reason else ''}{close.reason})"
        return "the gateway closed the connection without a word"


async def connect(address: Address, link: Link, timeout_s: float) -> Connection:
    """Connect, judge the certificate, shake hands. Raises LinkError; then nothing secret was sent."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _connect(address, link)
    except TimeoutError:
        raise LinkError(f"no answer within {timeout_s:g} s; is a firewall in the way?") from None
    except OSError as error:
        raise LinkError(explain(error)) from None


async def _connect(address: Address, link: Link) -> Connection:
    context = tls_context(link) if link.tls else None
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(address),
        address.host,
        address.port,
        ssl=context,
        server_hostname=address.host.partition("%")[0] if context else None,
        **_happy_eyeballs(),
    )
    try:
        check_pin(connection, link)
        await connection.upgrade()
    except BaseException:
        connection.abort()
        raise
    return connection


def check_pin(connection: Connection, link: Link) -> None:
    """Raise LinkError unless the peer shows the very certificate the token names."""
    found = connection.certificate_pin()
    if link.pin is not None and found != link.pin:
        raise OtherCertificate(
            f"the gateway's certificate ({(found or 'none')[:16]}…) is not the one the token names "
            f"({link.pin[:16]}…): nothing was sent. If its certificate was renewed, take a new token from it; "
            "otherwise something else answers at this address"
        )


def tls_context(link: Link) -> ssl.SSLContext:
    """TLS that verifies chain and name by `ca_file`, or, with a pin, leaves the judgement to check_pin()."""
    if link.ca_file is not None:
        try:
            return ssl.create_default_context(cafile=link.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise LinkError(f"--ca {link.ca_file}: not a usable PEM file ({error})") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _authority(address: Address) -> str:
    """HOST:PORT for the Host header; a zone belongs to this machine only."""
    return str(Address(address.host.partition("%")[0], address.port))


def _notice_dead_peers(sock: socket.socket) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _happy_eyeballs() -> dict[str, Any]:
    """Race IPv6 and IPv4 where the loop can: uvloop, which the embedded local node may run in, cannot."""
    can = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    return {"happy_eyeballs_delay": 0.25} if can else {}
