"""A peer's client in its own environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.harness.talking import Talker
from benchmarks.harness.venvs import PEERS


def client(peer: str, python: Path, log: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Talker:
    """`client.py` of a peer, running."""
    path = os.pathsep.join((str(PEERS), str(PEERS / peer)))
    return Talker(peer, [python, PEERS / peer / "client.py"], log, {"PYTHONPATH": path, **variables})
