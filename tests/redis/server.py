"""A real Redis for tests."""

import subprocess
import time
from pathlib import Path

import redis

from retire_cluster.torture.redis_server import executable

PATIENCE_S = 20.0


class RedisServer:
    """On a Unix socket in a directory of its own; may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "redis.sock"
        self._directory = directory
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Start, and return once it answers."""
        where = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            [executable(), *where, "--save", ""], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
