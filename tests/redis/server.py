"""A real Redis for tests."""

import signal
import subprocess
import time
from pathlib import Path

import redis

from retire_cluster.torture.redis_server import executable

PATIENCE_S = 20.0


class RedisServer:
    """In a directory of its own, on a Unix socket there or a port of loopback; may be killed and started again."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._socket = directory / "redis.sock"
        self._directory = directory
        self._port = port
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        """Start, and return once it answers."""
        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        where += [] if self._port else ["--unixsocket", str(self._socket)]
        self._process = subprocess.Popen(
            [executable(), *where, "--save", ""],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the cluster; Redis ends after it
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Connections are taken, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
