"""The whole production shape on this machine, to look at: `make run-production`.

PostgreSQL and Redis are private ones; everything they and the cluster keep is in temporary directories. honcho runs
the processes of deploy/Procfile: should one of them end, it says which and ends all, as foreman does.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
import psutil

from tests import postgres
from tests.architecture.code import ROOT
from tests.e2e.cluster import BIN, clean_environment, free_port
from tests.production.shape import redis_server

PROCFILE = ROOT / "deploy" / "Procfile"
PORTS = {"GATEWAY1_PORT": 8080, "GATEWAY2_PORT": 8090, "GUNICORN_PORT": 8081, "UVICORN_PORT": 8082}
LOOK_S = 0.2
_TELLING = ("level", "logger", "message", "exception")


@dataclass(frozen=True)
class Place:
    """Where everything of one run is."""

    directory: Path
    ports: dict[str, int]
    environment: dict[str, str]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def lines(self) -> list[str]:
        """What somebody at a terminal wants to know."""
        uvicorn, gunicorn = self.url("UVICORN_PORT"), self.url("GUNICORN_PORT")
        gateways = [f"127.0.0.1:{self.ports[name]}" for name in ("GATEWAY1_PORT", "GATEWAY2_PORT")]
        another = f"--token-file {self.directory / 'join-token'} --device-id another --data-dir another-agent"
        return [
            "",
            "Retire-Cluster is up.",
            f"Dashboard   {uvicorn}/",
            f"REST API    {uvicorn}/api/v1 (uvicorn), {gunicorn}/api/v1 (gunicorn)",
            f"Gateways    {', '.join(gateways)}",
            f"Admin key   in {self.directory / 'api-key'}",
            f"Data        in {self.directory}, removed at the end",
            "Join        another agent on this machine:",
            f"            {BIN / 'retire-cluster-worker'} --join {gateways[0]} {another}",
            "Commands    such as retire-cluster-manage, in a shell after:",
            f"            . {self.directory / 'environment'}",
            "Ctrl-C stops everything.",
            "",
        ]


def _place(stack: ExitStack, *, free_ports: bool) -> Place:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retire-cluster-production-")))
    ports = {name: free_port() if free_ports else port for name, port in PORTS.items()}
    settings = {
        "RETIRE_CLUSTER_DATABASE_URL": stack.enter_context(postgres.server()),
        "RETIRE_CLUSTER_REDIS_URL": stack.enter_context(redis_server(directory)).url,
        "RETIRE_CLUSTER_DATA_DIR": str(directory),
        "RETIRE_CLUSTER_CLUSTER_PORT": str(ports["GATEWAY1_PORT"]),
    }
    (directory / "environment").write_text("".join(f"export {k}='{v}'\n" for k, v in settings.items()))
    named_ports = {name: str(port) for name, port in ports.items()}
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1"}
    return Place(directory, ports, {**clean_environment(), **settings, **named_ports, **path})


def _announce_when_up(place: Place) -> None:
    """Say where everything is, once both APIs find all of it healthy."""
    waiting = ["GUNICORN_PORT", "UVICORN_PORT"]
    while waiting and place.directory.exists():
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{place.url(waiting[0])}/health", timeout=5).status_code == 200:
                waiting.pop(0)
        time.sleep(LOOK_S)
    if not waiting:
        print("\n".join(place.lines()), flush=True)


def readable(line: str) -> str:
    """A line of honcho's: what a process logs as JSON becomes words, all else stays."""
    prefix, bar, said = line.partition("| ")
    try:
        record = json.loads(said)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    words = [str(record[name]) for name in _TELLING if name in record]
    facts = [f"{name}={value}" for name, value in record.items() if name not in (*_TELLING, "timestamp")]
    return f"{prefix}{bar}{' '.join([*words, *facts])}\n"


def _run(place: Place) -> int:
    """Every process until one ends or somebody stops us; honcho's exit code, 0 when we were asked to stop."""
    honcho = subprocess.Popen(
        [sys.executable, "-m", "honcho", "--no-colour", "-d", place.directory, "-f", PROCFILE, "start"],
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C reaches it through us, once
    )
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        honcho.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert honcho.stdout is not None
        with honcho.stdout:
            for line in honcho.stdout:
                print(readable(line), end="", flush=True)
        code = honcho.wait()
    finally:
        _end_strays(place.directory)
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if asked else code or 1


def _end_strays(directory: Path) -> None:
    """Whatever still runs on our data, should honcho have been stopped while it was starting things."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RETIRE_CLUSTER_DATA_DIR") == str(directory):
                process.kill()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped, else a process ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.production.local", description=__doc__)
    parser.add_argument("--free-ports", action="store_true", help=f"not {sorted(PORTS.values())}")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # so that what was started is stopped then, too
    with ExitStack() as stack:
        place = _place(stack, free_ports=options.free_ports)
        migrate = [str(BIN / "retire-cluster-manage"), "migrate", "--no-input", "-v", "0"]
        subprocess.run(migrate, env=place.environment, check=True)
        threading.Thread(target=_announce_when_up, args=(place,), daemon=True).start()
        return _run(place)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
