"""A private RabbitMQ: a node, a name service and a cookie of its own, all on loopback and in one directory."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kombu import Connection

from tests.e2e.cluster import free_port, until

# The distribution's wrapper in the PATH runs it as its own account only.
_PROGRAMS = "lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
_UNPRIVILEGED = "nobody"  # whom it runs as when we are root
START_S = 180.0  # Erlang compiles a good deal first
_MISSING = "install rabbitmq-server (apt install rabbitmq-server)"


class RabbitMQ:
    """May be killed and started again; what was declared in it lasts."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port, self._name_port, self._node_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        # In the foreground and ours, as Erlang would otherwise leave one behind for good.
        self._names = self._spawn(["epmd", "-port", str(self._name_port), "-address", "127.0.0.1"])
        until(self._names_answer, "Erlang's name service")
        self._node: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return once it takes connections."""
        self._node = self._spawn([str(_program())])
        until(self._answers, "RabbitMQ", START_S)

    def send_signal(self, number: signal.Signals) -> None:
        assert self._node is not None
        os.killpg(self._node.pid, number)

    def kill(self) -> None:
        if self._node is not None:
            os.killpg(self._node.pid, signal.SIGKILL)
            self._node.wait()
            self._node = None

    def stop(self) -> None:
        self.kill()
        self._names.kill()
        self._names.wait()

    def _spawn(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self._home / "output.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log, **_account())

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),  # of the cookie
            "ERL_EPMD_PORT": str(self._name_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "retire-cluster@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "RABBITMQ_MNESIA_BASE": str(self._home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "none"),  # not the machine's own settings
            "RABBITMQ_CONFIG_FILE": str(self._home / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "plugins"),
        }

    def _names_answer(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._name_port)) == 0

    def _answers(self) -> bool:
        assert self._node is not None
        assert self._node.poll() is None, (self._home / "output.log").read_text()
        try:
            with Connection(self.url, connect_timeout=1) as connection:
                connection.connect()
        except OSError:
            return False
        return True


def _program() -> Path:
    found = sorted(Path("/usr").glob(_PROGRAMS))
    assert found, _MISSING
    return found[-1]


def _account() -> dict[str, Any]:
    """Arguments of subprocess: a group of its own, and without root's rights if we have them."""
    if os.geteuid() != 0:
        return {"start_new_session": True}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    return {"start_new_session": True, "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def running() -> Iterator[RabbitMQ]:
    with tempfile.TemporaryDirectory(prefix="rc-rabbit-") as name:
        if os.geteuid() == 0:
            shutil.chown(name, _UNPRIVILEGED)
        broker = RabbitMQ(Path(name))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()
