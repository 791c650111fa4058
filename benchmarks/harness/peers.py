"""A peer's client in its own environment, spoken to in lines of JSON (benchmarks/peers/driver.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.harness.venvs import PEERS

STOP_S = 10.0


class PeerError(RuntimeError):
    """The peer's client failed; the message holds its words."""


class Helper:
    """A program that obeys lines of JSON, running. `pid` is of its process."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, variables: Mapping[str, str]
    ) -> None:
        self._name = name
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, **variables},
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
            raise PeerError(f"{self._name} ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self._name} ended")
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


class Client(Helper):
    """`client.py` of a peer."""

    def __init__(
        self, peer: str, python: Path, log: Path, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        path = os.pathsep.join((str(PEERS), str(PEERS / peer)))
        command = (python, PEERS / peer / "client.py")
        super().__init__(f"the client of {peer}", command, log, {"PYTHONPATH": path, **variables})


class Own(Helper):
    """A module of ours that loads a server from a process of its own."""

    def __init__(self, module: str, log: Path) -> None:
        root = str(PEERS.parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        super().__init__(module, (sys.executable, "-m", module), log, {"PYTHONPATH": path})
