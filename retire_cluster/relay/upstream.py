"""Connections to the gateway: each is judged before a byte of a request crosses it."""

import errno
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpcore

from retire_cluster.relay.headers import Headers
from retire_cluster.relay.peer import Peer, Untrusted, judge, tls_context

CONNECT_S = 2.0
READ_S = 75.0  # ?wait= answers after 60 at the latest
WRITE_S = 30.0
MAX_CONNECTIONS = 1000  # each ?wait= holds one
# The gateway closes a connection that was idle for 5 s: what it may just be closing is not used again.
IDLE_S = 3.0
TIMEOUTS = {"connect": CONNECT_S, "read": READ_S, "write": WRITE_S, "pool": CONNECT_S}


class Unreachable(Exception):
    """The request did not leave this machine; the message says why."""


class Broken(Exception):
    """The connection broke when the request had begun to cross it: the gateway may have acted on it."""


class Upstream:
    """The gateway, over kept connections. Belongs to one event loop."""

    def __init__(self, peer: Peer) -> None:
        """Raises PeerError where the peer's authority cannot be read."""
        self.peer = peer
        self.context = tls_context(peer)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self.context,
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=_JudgingBackend(peer),
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: AsyncIterator[bytes] | None = None,
        read_s: float = READ_S,
    ) -> AsyncIterator[httpcore.Response]:
        """Send it and give the answer, whose body is still to be read. Raises Unreachable, Broken."""
        url = httpcore.URL(
            scheme=self.peer.scheme, host=self.peer.address.host, port=self.peer.address.port, target=target
        )
        extensions = {"timeout": {**TIMEOUTS, "read": read_s}, "sni_hostname": self.peer.server_name}
        request = httpcore.Request(method, url, headers=headers, content=body, extensions=extensions)
        with _explained(self.peer):
            response = await self._pool.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _JudgingBackend(httpcore.AsyncNetworkBackend):
    """httpcore's own, but for the look at the certificate."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *arguments: Any, **options: Any) -> "_JudgedStream":
        return _JudgedStream(self._peer, await self._inner.connect_tcp(host, port, *arguments, **options))


class _JudgedStream(httpcore.AsyncNetworkStream):
    """A connection that turns into TLS only with the right peer."""

    def __init__(self, peer: Peer, inner: httpcore.AsyncNetworkStream) -> None:
        self._peer = peer
        self._inner = inner

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.start_tls(*arguments, **options)
        try:
            judge(self._peer, stream.get_extra_info("ssl_object").getpeercert(binary_form=True))
        except Untrusted:
            await stream.aclose()
            raise
        return stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@contextmanager
def _explained(peer: Peer) -> Iterator[None]:
    """Turns httpcore's exceptions into the two kinds there are: nothing was sent, or something was."""
    where = peer.address
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout, Untrusted) as error:
        raise Unreachable(reason(peer, error)) from error
    except httpcore.PoolTimeout:
        raise Unreachable(f"{MAX_CONNECTIONS} requests to {where} are open already") from None
    except httpcore.TimeoutException:
        raise Broken(f"the gateway at {where} took a request and did not answer in time") from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        hint = "" if peer.tls else "; if it speaks TLS, start with --cluster-pin"
        raise Broken(f"the gateway at {where} ended a request without an answer{hint}") from None


def reason(peer: Peer, error: BaseException) -> str:
    """Why there is no connection, in words a person can act on."""
    where = peer.address
    if isinstance(error, Untrusted):
        return str(error)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate at {where} is not valid for --cluster-ca: {cause.verify_message}"
        if isinstance(cause, socket.gaierror):
            return f"the name {where.host} cannot be resolved: check --cluster-host, or give the address"
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens on {where}; start retire-cluster-main there"
        if isinstance(cause, TimeoutError) or type(cause).__name__.endswith("Timeout"):
            return f"no answer from {where} in time; is the machine on, or a firewall in the way?"
        if isinstance(cause, ssl.SSLError):
            return f"TLS with {where} failed; if the gateway runs with --insecure-plain, do so here as well"
    return _by_number(peer, causes)


def _by_number(peer: Peer, causes: Iterable[BaseException]) -> str:
    number = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    word = errno.errorcode.get(number, str(number)) if number else "the connection ended at once"
    return f"no connection to {peer.address} ({word}); check --cluster-host, --cluster-port and the network"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it came from."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or found in seen:
            continue
        seen.append(found)
        yield found
        waiting += [found.__context__, found.__cause__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
