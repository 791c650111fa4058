"""A program that is spoken to in lines of JSON: one object in, one out (benchmarks/peers/driver.py is its loop)."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

STOP_S = 10.0


class CallFailed(RuntimeError):
    """The program failed or ended; the message holds its words."""


class Talker:
    """The running program. `pid` is of its process; its errors go to `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        variables: Mapping[str, str] = MappingProxyType({}),
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
        self.pid, self.log = self._process.pid, log

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """What the program answers. Raises CallFailed."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps({"call": name, "arguments": arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise CallFailed(f"{self._name} ended; see {self.log}") from None
        line = self._process.stdout.readline()
        if not line:
            raise CallFailed(f"{self._name} ended; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer

    def stop(self) -> None:
        """Close its input, which ends it; killed where that does not."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
