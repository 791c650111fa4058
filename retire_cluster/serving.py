"""An HTTP server on a bound socket as a part of a process: uvicorn, with a certificate that may be renewed."""

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from django.db import DatabaseError

from retire_cluster.gateway.websocket import GuardedWebSocket
from retire_cluster.listeners import Listener
from retire_cluster.tls import Certificate

logger = logging.getLogger("retire_cluster")

CERTIFICATE_LOOK_S = 5.0  # how soon a renewed certificate is taken
TICK_S = 1.0
STOP_S = 2  # what each part gets to end in order; all together stay under five


class PartDied(RuntimeError):
    """A part of the process ended by itself."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: one process, one place that listens to signals.

    It looks about once a second, not ten times, and is woken to stop.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop_asked = asyncio.Event()

    def stop(self) -> None:
        """End `serve` soon. In its event loop."""
        self.should_exit = True
        self._stop_asked.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(
            counter=0
        ):  # at 0 it does what it does once a second: the Date of answers
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), TICK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def stop_on_signal(over: "asyncio.Future[None]") -> None:
    """SIGINT and SIGTERM end the process in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _stop_asked, over)


def _stop_asked(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


@asynccontextmanager
async def http(
    app: Any,
    listener: Listener,
    part: str,
    died: Any,
    before_stop: Any = None,
    renewed: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """Serve while the block runs; `died(part, error)` is told when the server ends by itself."""
    server = _Server(_uvicorn_config(app, listener))
    task = asyncio.create_task(server.serve(sockets=[listener.socket]), name=part)
    task.add_done_callback(lambda done: died(part, None if done.cancelled() else done.exception()))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        async with _renewing(listener.tls, server.config.ssl, renewed):
            yield
    finally:
        if before_stop is not None:
            await before_stop()
        server.stop()
        with contextlib.suppress(BaseException):  # reported by the callback already
            await asyncio.wait_for(task, STOP_S + 1)


@asynccontextmanager
async def _renewing(
    tls: Certificate | None, context: ssl.SSLContext | None, renewed: Callable[[], None] | None
) -> AsyncIterator[None]:
    """Keep the context's certificate that of the files."""
    if tls is None or context is None:
        yield
        return
    task = asyncio.create_task(_renew(tls, context, renewed))
    try:
        yield
    finally:
        task.cancel()


async def _renew(tls: Certificate, context: ssl.SSLContext, renewed: Callable[[], None] | None) -> None:
    """Look at the files now and then. A broken pair is said, and the old one stays in use."""
    trouble = ""
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK_S)
        try:
            if await asyncio.to_thread(tls.is_renewed):
                tls.load(context)
                logger.info("the certificate %s was renewed", tls.certificate, extra={"action": "tls"})
                if renewed is not None:
                    await asyncio.to_thread(renewed)
            trouble = ""
        except (OSError, ValueError, DatabaseError) as error:
            if str(error) != trouble:
                trouble = str(error)
                logger.warning("%s cannot be used, the old one stays: %s", tls.certificate, trouble)


def _uvicorn_config(app: Any, listener: Listener) -> uvicorn.Config:
    tls = listener.tls
    return uvicorn.Config(
        app,
        http="httptools",
        ws=GuardedWebSocket,
        ws_ping_interval=None,  # the protocol's heartbeats do that
        ws_per_message_deflate=False,  # 40 KiB a socket for nothing
        lifespan="off",
        log_config=None,
        access_log=False,  # RequestMiddleware writes the request log
        proxy_headers=False,  # no header is trusted unless a setting says so
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
