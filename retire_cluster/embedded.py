"""A whole cluster in one process: API, gateway, Celery worker with beat, and a local node, in any combination.

Every part runs under one roof: the first that ends by itself ends the process, with a line that says which and
why. A signal ends all of them in order, within seconds, and leaves nothing behind.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import DatabaseError, InterfaceError

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
from retire_cluster.listeners import Listener
from retire_cluster.postgres import waits
from retire_cluster.protocol.states import Role
from retire_cluster.serving import STOP_S, PartDied, http, stop_on_signal

logger = logging.getLogger("retire_cluster")


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


async def serve(shape: Shape) -> None:
    """Run until SIGINT or SIGTERM. Raises PartDied."""
    waits.limit()
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def died(part: str, error: BaseException | None) -> None:
        if not over.done():
            over.set_exception(PartDied(f"the {part} ended: {error or 'without an error'}"))

    def died_in_thread(part: str) -> Callable[[BaseException], None]:
        def report(error: BaseException) -> None:
            loop.call_soon_threadsafe(died, part, error)

        return report

    stop_on_signal(over)
    async with AsyncExitStack() as stack:
        if shape.gateway is not None:
            await stack.enter_async_context(_gateway(shape, shape.gateway, died, died_in_thread))
        if shape.celery:
            await stack.enter_async_context(_celery(died_in_thread("Celery worker")))
        if shape.api is not None:
            await stack.enter_async_context(http(application, shape.api, "API", died))
        if shape.local_node:
            await stack.enter_async_context(_local_node(shape, died))
        if shape.when_up is not None:
            # Not awaited: should a part die meanwhile, the process must not wait for a task nobody runs.
            threading.Thread(target=shape.when_up, name="when-up", daemon=True).start()
        try:
            await over
        finally:
            waiters.release_all()


@asynccontextmanager
async def _gateway(shape: Shape, listener: Listener, died: Any, died_in_thread: Any) -> AsyncIterator[None]:
    row = await asyncio.to_thread(_record_gateway, listener)
    identity = Identity(row.id, await asyncio.to_thread(config.incarnation), shape.reusable_token)
    app = GatewayApp(identity, application, died_in_thread("gateway's committer"), listener.tls)
    app.start()
    ops.local_gateway = app.health
    try:
        async with http(app, listener, "gateway", died, app.stop, shape.certificate_changed):
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
    except (DatabaseError, InterfaceError) as error:
        # Others count it as silent soon; an error here would hide the one that ends the process.
        logger.warning("cannot say goodbye to the database: %s", error, extra={"action": "stop"})


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
