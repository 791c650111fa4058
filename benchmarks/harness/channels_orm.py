"""The stock Channels project (peers/channels_orm), running: what is sent it stores by the ORM and tells a group."""

import json
import os
import socket
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.harness.bench import Bench, durable_postgres
from benchmarks.harness.ours import Program, until
from benchmarks.harness.talking import Talker
from benchmarks.harness.venvs import PEERS, python_of
from retire_cluster.torture import redis_server
from retire_cluster.torture.processes import free_port

PEER = "channels_orm"
LAYERS = {
    "Channels, Redis layer": "channels_redis.core.RedisChannelLayer",
    "Channels, Redis pub/sub layer": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


class Stock:
    """The project on a PostgreSQL and a Redis of its own. Ends with the stack."""

    def __init__(self, bench: Bench, stack: ExitStack, layer: str, *, threads: int = 8) -> None:
        python = python_of(PEER, bench.cache)
        self.directory = bench.directory / layer.rpartition(".")[2]
        self.directory.mkdir(parents=True)
        self.database = stack.enter_context(durable_postgres(self.directory / "postgres.log"))
        redis_port = free_port()
        quiet = ("--save", "", "--dir", self.directory, "--bind", "127.0.0.1")
        server = (redis_server.executable(), "--port", str(redis_port), *quiet)
        redis = Program(server, self.directory / "redis.log")
        stack.callback(redis.stop)
        self.variables = {
            "PEER_DATABASE_HOST": unquote(urlsplit(self.database.url).hostname or ""),
            "PEER_DATABASE_NAME": "postgres",
            "PEER_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "PEER_LAYER": layer,
        }
        command = [python, PEERS / PEER / "client.py"]
        path = os.pathsep.join((str(PEERS), str(PEERS / PEER)))
        self.variables["PYTHONPATH"] = path
        self.client = Talker(PEER, command, self.directory / "peer.log", self.variables)
        stack.callback(self.client.stop)
        stack.callback(self._stop)
        self.versions = str(self.client.call("prepare")["versions"])
        self.port, self.request_port = free_port(), free_port()
        self.sockets_pid = self.start_sockets()
        requests_pid = int(self.client.call("start_requests", port=self.request_port, threads=threads)["pid"])
        until(lambda: _listens(self.request_port), f"gunicorn; see {self.directory}")
        self._others = [redis.pid, requests_pid, self.database.pid]

    @property
    def roots(self) -> list[int]:
        return [self.sockets_pid, *self._others]

    def start_sockets(self) -> int:
        """The process that serves the WebSockets, for the first time or again; its id."""
        pid = int(self.client.call("start_sockets", port=self.port)["pid"])
        until(lambda: _listens(self.port), f"uvicorn; see {self.directory}")
        return pid

    def restart_sockets(self) -> None:
        self.client.call("kill_sockets")
        self.sockets_pid = self.start_sockets()

    def count(self, **wanted: Any) -> int:
        """How many devices have these values in their rows."""
        return int(self.client.call("count", **wanted)["count"])

    def _stop(self) -> None:
        self.client.call("stop")


class Notes:
    """One kept connection to the stock project's view."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, data: Any) -> str:
        """Store a note and have everybody told; its id."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/notes", json.dumps(data), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"POST /notes: {answer.status} {body[:200]!r}")
        return str(json.loads(body)["id"])

    def close(self) -> None:
        self._connection.close()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def settings_of(stock: Stock, layer: str) -> str:
    """A line on what ran."""
    return f"{stock.versions}; {layer.rpartition('.')[2]}, one uvicorn, one gunicorn worker"


__all__ = ["LAYERS", "PEER", "Notes", "Stock", "settings_of"]
