"""`retire-cluster-status`: how the cluster is, at a glance or live."""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retire_cluster.sdk import ApiError, Client, SdkError, UnexpectedAnswer
from retire_cluster.sdk.errors import Forbidden, Unauthorized
from retire_cluster.sdk.models import ClusterStatus, Device, Statistics, Task
from retire_cluster.terminal import advice, devices, server, shown, tasks
from retire_cluster.terminal.command import Parser, add_version, carried_out
from retire_cluster.terminal.exits import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

PROGRAM = "retire-cluster-status"
SHOWN_TASKS = 10
MOST_DEVICES = 100  # of one page
PACE_S = 5.0  # between two looks of --watch: four calls each, of the 60 a minute a server allows
LOOK_ANYWAY_S = 30.0  # what no event tells, as a device's load


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="How a Retire-Cluster is: its devices, its queue, its last tasks.",
        epilog="Exit codes: 0 it is healthy and a device is online; 1 it is not; 2 usage; 3 server unreachable.",
    )
    parser.add_argument("address", nargs="?", metavar="HOST[:8081]", help="the server (this machine's)")
    parser.add_argument("--devices", action="store_true", help="all devices")
    parser.add_argument("--device", metavar="ID", help="one device with everything about it")
    parser.add_argument("--role", metavar="ROLE", help="only devices of this role")
    parser.add_argument("--tasks", action="store_true", help="the newest tasks")
    parser.add_argument("--watch", action="store_true", help="live, until Ctrl-C")
    server.add_options(parser)
    add_version(parser)
    return parser


@dataclass(frozen=True)
class Picture:
    """What is shown at one moment."""

    health: str
    parts: dict[str, str]
    status: ClusterStatus
    statistics: Statistics
    devices: tuple[Device, ...]
    tasks: tuple[Task, ...]

    @property
    def is_well(self) -> bool:
        """Healthy, and somebody is there to work."""
        return self.health != "unhealthy" and self.status.cluster_stats.online_devices > 0


def look(client: Client, arguments: argparse.Namespace) -> Picture:
    """Ask for everything that is shown."""
    health = client.health()
    found = (
        client.devices(role=arguments.role).page(1, MOST_DEVICES) if _wants(arguments, "devices") else None
    )
    newest = client.tasks().page(1, SHOWN_TASKS) if _wants(arguments, "tasks") else None
    return Picture(
        health.status,
        dict(health.components),
        client.cluster_status(),
        client.statistics(),
        found.items if found else (),
        newest.items if newest else (),
    )


def _wants(arguments: argparse.Namespace, what: str) -> bool:
    """Without a wish for one list, both are shown."""
    wished = {"devices": arguments.devices or bool(arguments.role), "tasks": arguments.tasks}
    return wished[what] or not any(wished.values())


def show(client: Client, arguments: argparse.Namespace) -> int:
    """Once."""
    if arguments.device:
        devices.one(client, arguments.device, as_json=arguments.json)
        return Exit.OK if client.device_status(arguments.device).is_online else Exit.FAILED
    picture = look(client, arguments)
    if arguments.json:
        shown.as_json(as_data(picture))
    elif shown.is_terminal():
        shown.console().print(drawn(picture, arguments))
    else:
        _print_plain(picture, arguments)
    return Exit.OK if picture.is_well else Exit.FAILED


def as_data(picture: Picture) -> dict[str, object]:
    """As JSON: the server's objects under their names."""
    return {
        "health": {"status": picture.health, "components": picture.parts},
        "cluster": picture.status.raw,
        "statistics": picture.statistics.raw,
        "devices": [device.raw for device in picture.devices],
        "tasks": [task.raw for task in picture.tasks],
    }


def summary(picture: Picture) -> dict[str, object]:
    """The cluster in a few lines."""
    stats, load = picture.status.cluster_stats, picture.statistics.current_load
    by_status = picture.statistics.queue_stats.by_status
    bad = [f"{name} {state}" for name, state in picture.parts.items() if state != "healthy"]
    return {
        "health": picture.health,
        **({"not well": bad} if bad else {}),
        "devices online": f"{stats.online_devices} of {stats.total_devices}",
        "cores": stats.total_resources.cpu_cores,
        "memory gb": stats.total_resources.memory_gb,
        "tasks waiting": load.pending_tasks,
        "tasks running": load.running_tasks,
        "succeeded": by_status.get("success", 0),
        "failed": by_status.get("failed", 0) + by_status.get("timeout", 0),
        "server": f"{picture.status.server_info.version}, up {picture.status.server_info.uptime or shown.NOTHING}",
    }


def _print_plain(picture: Picture, arguments: argparse.Namespace) -> None:
    shown.facts(summary(picture))
    if _wants(arguments, "devices"):
        print()
        shown.table(devices.COLUMNS, map(devices.row, picture.devices))
    if _wants(arguments, "tasks"):
        print()
        shown.table(tasks.COLUMNS, map(tasks.row, picture.tasks))


def drawn(picture: Picture, arguments: argparse.Namespace) -> "RenderableType":
    """The picture for a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [shown.drawn_facts(summary(picture))]
    if _wants(arguments, "devices"):
        parts += [Text(), shown.drawn(devices.COLUMNS, map(devices.row, picture.devices))]
        hidden = picture.status.cluster_stats.total_devices - len(picture.devices)
        if not arguments.role and hidden > 0:
            parts.append(Text(f"and {hidden} more: {PROGRAM.removesuffix('-status')} devices", style="dim"))
    if _wants(arguments, "tasks"):
        parts += [Text(), shown.drawn(tasks.COLUMNS, map(tasks.row, picture.tasks))]
    return Group(*parts)


# --- live ---------------------------------------------------------------------------------------------------------


def watch(client: Client, arguments: argparse.Namespace) -> int:
    """Until Ctrl-C: on a terminal the picture, redrawn when something happens; as JSON every event, a line each."""
    try:
        if arguments.json:
            for event in client.events():
                print(shown.json_text(event.raw), flush=True)
            return Exit.OK
        _watch(client, arguments)
    except KeyboardInterrupt:
        pass
    return Exit.OK


def _watch(client: Client, arguments: argparse.Namespace) -> None:
    picture = look(client, arguments)
    with _changes(client) as changed, _canvas() as draw:
        trouble = ""
        while True:
            draw(picture, arguments, trouble)
            began = time.monotonic()
            changed.wait(LOOK_ANYWAY_S)
            time.sleep(max(0.0, PACE_S - (time.monotonic() - began)))
            changed.clear()
            try:
                picture, trouble = look(client, arguments), ""
            except SdkError as error:
                # The last picture stays, and says that it is old.
                trouble = shown.cell(f"as of {time.strftime('%H:%M:%S')}: {advice.said(error)}", human=True)
                changed.set()


@contextmanager
def _changes(client: Client) -> Iterator[threading.Event]:
    """Set whenever something happened in the cluster."""
    changed = threading.Event()
    try:
        events = client.events()
    except (Unauthorized, Forbidden):
        raise
    except (ApiError, UnexpectedAnswer) as error:  # gunicorn's workers tell of no events, nor do some proxies
        shown.note(f"not live, looked at each {LOOK_ANYWAY_S:.0f} s: {advice.said(error)}")
        yield changed
        return
    with events as stream:

        def listen() -> None:
            try:
                for _ in stream:
                    changed.set()
            except SdkError as error:
                shown.note(f"not live, looked at each {LOOK_ANYWAY_S:.0f} s: {advice.said(error)}")

        threading.Thread(target=listen, name="retire-cluster-events", daemon=True).start()
        yield changed


class _Draw:
    """Draws over what was there; in a pipe, or where nothing can be drawn over, one picture follows the other."""

    def __init__(self, live: "Live | None") -> None:
        self._live = live

    def __call__(self, picture: Picture, arguments: argparse.Namespace, trouble: str) -> None:
        from rich.console import Group
        from rich.text import Text

        if self._live is None:
            if shown.is_terminal():
                shown.console().print(drawn(picture, arguments))
            else:
                _print_plain(picture, arguments)
            print(flush=True)
            if trouble:
                shown.note(trouble)
            return
        line = (
            Text(trouble, style="red")
            if trouble
            else Text(time.strftime("%H:%M:%S, Ctrl-C ends"), style="dim")
        )
        # First, because a screen that is too low for all of it shows the first lines.
        self._live.update(Group(line, Text(), drawn(picture, arguments)), refresh=True)


@contextmanager
def _canvas() -> Iterator[_Draw]:
    if not shown.is_terminal() or shown.console().is_dumb_terminal:
        yield _Draw(None)
        return
    from rich.live import Live

    with Live(console=shown.console(), screen=True, auto_refresh=False) as live:
        yield _Draw(live)


def main(argv: list[str] | None = None) -> int:
    """The command; its exit code."""

    def act() -> int:
        arguments = server.complete(build_parser().parse_args(argv))
        # Who watches wants to see at once that the server is away; it is asked again anyway.
        retries = 0 if arguments.watch else server.RETRIES
        with server.connect(arguments, arguments.address, retries=retries) as client:
            return watch(client, arguments) if arguments.watch else show(client, arguments)

    return carried_out(PROGRAM, act)
