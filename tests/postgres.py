"""A private PostgreSQL server for one command: `python -m tests.postgres -- pytest tests/integration`.

The command finds it in RETIRE_CLUSTER_DATABASE_URL.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from retire_cluster.torture.postgres import PostgresError, Server, running, server

__all__ = ["PostgresError", "Server", "main", "running", "server"]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run the command against a private server; its exit code is ours."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command:
        print("usage: python -m tests.postgres -- COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)  # so that the server is stopped then, too
    try:
        with server() as url:
            environment = {**os.environ, "RETIRE_CLUSTER_DATABASE_URL": url}
            return subprocess.run(command, env=environment, check=False).returncode
    except PostgresError as error:
        print(f"tests.postgres: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
