"""A whole cluster in one process: API, gateway, Celery worker with beat, and a local node, in any combination.

Every part runs under one roof: the first that ends by itself ends the process, with a line that says which and
why. A signal ends all of them in order, within seconds, and leaves nothing behind.
"""

import asyncio
import contextlib
import logging
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn
from django.db import DatabaseError

from clusterconfig import services as config
from devices import services as devices
from devices.models import Gateway
from retire_cluster import db, ops, waiters
from retire_cluster.agent.address import Address
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.runtime import Runtime
from retire_cluster.asgi import application
from retire_cluster.celery_thread import CeleryThread
from retire_cluster.gateway.app import GatewayApp
from retire_cluster.gateway.ingest import Identity
from retire_cluster.gateway.websocket import GuardedWebSocket
from retire_cluster.listeners import Listener
from retire_cluster.protocol.states import Role
from retire_cluster.tls import Certificate

logger = logging.getLogger("retire_cluster")

CERTIFICATE_LOOK_S = 5.0  # how soon a renewed certificate is taken
STOP_S = 2  # what each part gets to end in order; all together stay under five


@dataclass(frozen=True, slots=True)
class Shape:
    """Which parts run, and where."""

    data_dir: Path
    join_token: str  # for the local node
    api: Listener | None = None
    gateway: Listener | None = None
    celery: bool = False
    local_node: str = ""  # its device id; empty: none
    reusable_token: str = ""
    when_up: Callable[[], Any] | None = None  # called in a thread once everything serves
    certificate_changed: Callable[[], None] | None = None  # called in a thread when a renewed one is in use


class PartDied(RuntimeError):
    """A part of the process ended by itself."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: one process, one place that listens to signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(shape: Shape) -> None:
    """Run until SIGINT or SIGTERM. Raises PartDied."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def died(part: str, error: BaseException | None) -> None:
        if not over.done():
            over.set_exception(PartDied(f"the {part} ended: {error or 'without an error'}"))

    def died_in_thread(part: str) -> Callable[[BaseException], None]:
        def report(error: BaseException) -> None:
            loop.call_soon_threadsafe(died, part, error)

        return report

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop_asked, over)
    async with AsyncExitStack() as stack:
        if shape.gateway is not None:
            await stack.enter_async_context(_gateway(shape, shape.gateway, died, died_in_thread))
        if shape.celery:
            await stack.enter_async_context(_celery(died_in_thread("Celery worker")))
        if shape.api is not None:
            await stack.enter_async_context(_http(application, shape.api, "API", died))
        if shape.local_node:
            await stack.enter_async_context(_local_node(shape, died))
        if shape.when_up is not None:
            # Not awaited: should a part die meanwhile, the process must not wait for a task nobody runs.
            threading.Thread(target=shape.when_up, name="when-up", daemon=True).start()
        try:
            await over
        finally:
            waiters.release_all()


def _stop_asked(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


@asynccontextmanager
async def _gateway(shape: Shape, listener: Listener, died: Any, died_in_thread: Any) -> AsyncIterator[None]:
    row = await asyncio.to_thread(_record_gateway, listener)
    identity = Identity(row.id, await asyncio.to_thread(config.incarnation), shape.reusable_token)
    app = GatewayApp(identity, application, died_in_thread("gateway's committer"), listener.tls)
    app.start()
    ops.local_gateway = app.health
    try:
        async with _http(app, listener, "gateway", died, app.stop, shape.certificate_changed):
            yield
    finally:
        ops.local_gateway = None
        await asyncio.to_thread(_forget_gateway, row)


def _record_gateway(listener: Listener) -> Gateway:
    now = db.now()
    row = Gateway(
        id=uuid4(),
        host=listener.host,
        port=listener.port,
        tls=listener.tls is not None,
        started_at=now,
        seen_at=None if db.is_sqlite() else now,
    )
    with db.write_transaction():
        # On SQLite a lock file keeps every other gateway off the database.
        devices.start_gateway(row, alone=db.is_sqlite(), now=now)
    return row


def _forget_gateway(row: Gateway) -> None:
    try:
        with db.write_transaction():
            devices.stop_gateway(row.id, now=db.now())
    except DatabaseError as error:
        # Others count it as silent soon; an error here would hide the one that ends the process.
        logger.warning("cannot say goodbye to the database: %s", error, extra={"action": "stop"})


@asynccontextmanager
async def _http(
    app: Any,
    listener: Listener,
    part: str,
    died: Any,
    before_stop: Any = None,
    renewed: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
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
        server.should_exit = True
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


@asynccontextmanager
async def _celery(died: Callable[[BaseException], None]) -> AsyncIterator[None]:
    thread = CeleryThread(died)
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        await asyncio.to_thread(thread.join, STOP_S)


@asynccontextmanager
async def _local_node(shape: Shape, died: Any) -> AsyncIterator[None]:
    assert shape.gateway is not None
    runtime = Runtime(local_node_config(shape, shape.gateway))
    task = asyncio.create_task(runtime.run(), name="local node")
    task.add_done_callback(lambda done: _local_node_ended(done, died))
    try:
        yield
    finally:
        runtime.stop()
        with contextlib.suppress(BaseException):  # reported by the callback already
            await asyncio.wait_for(task, STOP_S)


def _local_node_ended(done: "asyncio.Task[None]", died: Any) -> None:
    """An operator who removes the local node does not mean the cluster: it goes on, at the next start too."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, AgentExit) and error.code is ExitCode.REVOKED:
        logger.warning("the server goes on without its local node: %s", error, extra={"action": "local-node"})
    else:
        died("local node", error)


def local_node_config(shape: Shape, gateway: Listener) -> AgentConfig:
    """The agent that runs in the server's own process. It joins like any other, over loopback."""
    host = "127.0.0.1" if gateway.host in ("0.0.0.0", "::", "") else gateway.host  # noqa: S104 compared only
    return AgentConfig(
        join=(Address(host, gateway.port),),
        data_dir=shape.data_dir,
        state_dir=shape.data_dir / "local-node",
        token=shape.join_token,
        device_id=shape.local_node,
        role=Role.WORKER,
    )
