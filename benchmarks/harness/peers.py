"""A peer's client in its own environment, spoken to in lines of JSON (benchmarks/peers/driver.py)."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.harness.venvs import PEERS

STOP_S = 10.0


class PeerError(RuntimeError):
    """The peer's client failed; the message holds its words."""


class Client:
    """`client.py` of a peer, running. `pid` is of its process."""

    def __init__(
        self, peer: str, python: Path, log: Path, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        path = os.pathsep.join((str(PEERS), str(PEERS / peer)))
        self._peer = peer
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(python), str(PEERS / peer / "client.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, "PYTHONPATH": path, **variables},
                text=True,
            )
        self.pid = self._process.pid

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Raises PeerError."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps({"call": name, "arguments": arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerError(f"the client of {self._peer} ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"the client of {self._peer} ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
