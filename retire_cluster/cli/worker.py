"""`retire-cluster-worker`: makes this machine a device of a cluster."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from retire_cluster import __version__, logs
from retire_cluster.agent import config as settings
from retire_cluster.agent import lean
from retire_cluster.agent.address import parse_address
from retire_cluster.agent.config import AgentConfig, Timing
from retire_cluster.agent.errors import AgentExit, ConfigError, ExitCode
from retire_cluster.agent.execution.handlers import offered_types
from retire_cluster.agent.keeping import offer
from retire_cluster.agent.keeping.itself import own_command
from retire_cluster.agent.keeping.places import Place
from retire_cluster.credentials import mask
from retire_cluster.env import EnvError
from retire_cluster.logfiles import SharedFile

if TYPE_CHECKING:  # loaded by those who need them
    from retire_cluster.agent.life import Device
    from retire_cluster.agent.runtime import Runtime

PROGRAM = "retire-cluster-worker"
COMMANDS = ("keep", "doctor")
KEEPERS = ("systemd", "cron", "termux")
# Threads only read files and resolve names; few threads keep the agent small.
MAX_THREADS = 4
THREAD_NAME = "agent-helper"
LINGER_S = 0.3
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

T = TypeVar("T")
logger = logging.getLogger("retire_cluster.cli.worker")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Make this machine a device of a Retire-Cluster. On Windows it is experimental.",
        epilog="Every setting has an environment variable RETIRE_CLUSTER_<OPTION> (--token: "
        "RETIRE_CLUSTER_JOIN_TOKEN); the option wins. keep, doctor and --leave know the settings of the last "
        "join, too. Exit codes: 0 stopped or done, 1 keep, doctor, --leave or --test found something wrong, "
        "2 usage, 3 token or secret refused, 4 removed by an operator, 5 device id taken, 6 version too old, "
        "7 data copied from another device.",
    )
    option = parser.add_argument
    _add_actions(option)
    option(
        "--join",
        action="append",
        metavar="HOST[:PORT]",
        help="the gateway; repeat it for several (port 8080)",
    )
    option(
        "--token", metavar="TOKEN", help="the join token the gateway prints; --token-file hides it from ps"
    )
    option("--token-file", metavar="FILE", help="a file that holds the join token")
    option("--device-id", metavar="ID", help="this device's name in the cluster (from the hostname)")
    option("--role", metavar="ROLE", help="worker, compute, storage or mobile (guessed)")
    option("--tags", metavar="A,B", help="tags that requirements may name, beside those that are guessed")
    option(
        "--task-types",
        metavar="A,B",
        help=f"run only these of {', '.join(offered_types())} and the types of your handlers",
    )
    option(
        "--handlers",
        metavar="MODULE",
        help="Python modules, or files, with handlers of your own task types (comma-separated)",
    )
    option("--slots", metavar="N", help="tasks at the same time (the number of cores)")
    option("--max-memory-gb", metavar="GB", help="memory that tasks may reserve together")
    option("--pause-on-battery", metavar="PERCENT", help="take no task on battery at this charge or below")
    option("--pause-above", metavar="CELSIUS", help="take no task at this temperature or above")
    option("--data-dir", metavar="DIR", help=f"where the agent keeps its files ({settings.DEFAULT_DATA_DIR})")
    option(
        "--ca", metavar="FILE", help="verify the gateway's certificate by this authority, not by the token"
    )
    option("--insecure-plain", action="store_true", help="connect without encryption, on a network you trust")
    option("--rejoin", action="store_true", help="join again after an operator removed this device")
    option(
        "--allow-private-http",
        action="store_true",
        help="let http_request tasks that ask for it reach this device's own networks",
    )
    option("--test", metavar="HOST[:PORT]", help="only check the way to a gateway, and say what is wrong")
    option(
        "--log-file", metavar="FILE", help="write the log there, not to standard error; it rotates by size"
    )
    option("--debug", action="store_true", help="log more")
    option("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def _add_actions(option: Callable[..., object]) -> None:
    """What to do instead of running the agent. An action has no variable."""
    option(
        "command",
        nargs="?",
        choices=COMMANDS,
        metavar="keep|doctor",
        help="keep: join, then keep the agent running, also after a reboot (systemd, cron or Termux:Boot); "
        "doctor: say what is wrong on this device, and the fix; without: run the agent",
    )
    option("--keeper", metavar="KIND", help=f"what keep uses: {', '.join(KEEPERS)} (the best there is)")
    option("--undo", action="store_true", help="with keep: remove what it installed")
    option("--leave", action="store_true", help="leave the cluster for good, and remove the agent's files")
    option("--force", action="store_true", help="with --leave: remove the files without telling the gateway")
    option("--json", action="store_true", help="with doctor: the findings as JSON")


class _Options:
    """Flags over environment variables; a bad value is a ConfigError that names where it came from."""

    def __init__(self, flags: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._flags = flags
        self._environ = environ

    def get(self, flag: str, parse: Callable[[str], T], variable: str | None = None) -> T | None:
        given = getattr(self._flags, flag)
        name = f"RETIRE_CLUSTER_{variable or flag.upper()}"
        if given is not None:
            return parse(given)
        if not self._environ.get(name):
            return None
        try:
            return parse(self._environ[name])
        except ConfigError as error:
            raise ConfigError(f"{error} (from {name})") from None

    def is_set(self, flag: str) -> bool:
        if getattr(self._flags, flag):
            return True
        text = self._environ.get(f"RETIRE_CLUSTER_{flag.upper()}", "").strip().lower()
        if text not in (*_YES, *_NO):
            raise ConfigError(f"RETIRE_CLUSTER_{flag.upper()}: {text!r} must be 1 or 0")
        return text in _YES


def build_config(flags: argparse.Namespace, environ: Mapping[str, str]) -> AgentConfig:
    """The validated settings. Raises ConfigError."""
    options = _Options(flags, environ)
    joined = ",".join(flags.join) if flags.join else environ.get("RETIRE_CLUSTER_JOIN", "")
    join = tuple(parse_address(text) for text in settings.parse_list(joined))
    if not join:
        raise ConfigError("--join HOST[:PORT] is missing: the address of the gateway this device works for")
    data_dir = _data_dir(options)
    return AgentConfig(
        join=join,
        data_dir=data_dir,
        state_dir=data_dir / "agent",
        token=_token(options, flags),
        device_id=options.get("device_id", settings.check_device_id),
        role=options.get("role", settings.check_role),
        tags=options.get("tags", lambda text: settings.check_tags(settings.parse_list(text))) or (),
        task_types=options.get("task_types", settings.parse_list) or (),
        handlers=options.get("handlers", _handlers) or (),
        slots=options.get("slots", settings.check_slots),
        max_memory_mb=options.get("max_memory_gb", settings.check_memory_gb),
        pause_on_battery=options.get("pause_on_battery", settings.check_battery_percent),
        pause_above=options.get("pause_above", settings.check_celsius),
        ca_file=options.get("ca", settings.check_ca_file),
        insecure_plain=options.is_set("insecure_plain"),
        rejoin=options.is_set("rejoin"),
        allow_private_http=options.is_set("allow_private_http"),
    )


def _handlers(text: str) -> tuple[str, ...]:
    return settings.check_handlers(settings.parse_list(text))


def _keeper(text: str) -> str:
    if text not in KEEPERS:
        raise ConfigError(f"--keeper: {text!r} must be one of {', '.join(KEEPERS)}")
    return text


def _data_dir(options: _Options) -> Path:
    directory = options.get("data_dir", Path) or Path(settings.DEFAULT_DATA_DIR)
    try:
        return directory.expanduser().absolute()
    except RuntimeError:
        raise ConfigError(
            f"--data-dir: {directory} cannot be resolved: this user has no home directory"
        ) from None


def _token(options: _Options, flags: argparse.Namespace) -> str | None:
    """--token, --token-file, then their variables: a flag beats any variable."""
    if flags.token is None and flags.token_file is not None:
        return settings.read_token_file(flags.token_file)
    token = options.get("token", settings.check_token, "JOIN_TOKEN")
    return token or options.get("token_file", settings.read_token_file)


def main(argv: list[str] | None = None, timing: Timing | None = None) -> int:
    """Run the agent until it is stopped; returns the exit code. `timing` replaces the usual durations."""
    code = _main(argv, timing or Timing())
    _abandon_threads(code)
    return code


def _abandon_threads(code: int) -> None:
    """Leave now if a thread still waits, for a name server perhaps: Python itself would wait for it."""
    deadline = time.monotonic() + LINGER_S
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                os._exit(code)


def _main(argv: list[str] | None, timing: Timing) -> int:
    flags = build_parser().parse_args(argv)
    try:
        options = _Options(flags, os.environ)
        _set_up_logging(options)
        if flags.test is not None:
            return _run(_test(flags, options))
        _check_actions(flags)
        if flags.command == "doctor":
            return _run(_doctor(flags, options))
        if flags.command == "keep" or flags.leave:
            return _live(flags, options, timing)
        return _start(flags, options, timing)
    except (ConfigError, EnvError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ExitCode.USAGE
    except AgentExit as ending:
        logger.error("%s", ending.message)  # noqa: TRY400 - one line says it all
        return ending.code


async def _test(flags: argparse.Namespace, options: _Options) -> int:
    from retire_cluster.agent.waycheck import check_way

    address = parse_address(flags.test, "--test")
    token, ca_file = _token(options, flags), options.get("ca", settings.check_ca_file)
    return 0 if await check_way(address, token, ca_file, print) else 1


def _check_actions(flags: argparse.Namespace) -> None:
    """Refuse what would have no effect. Raises ConfigError."""
    needed = {"undo": flags.command == "keep", "json": flags.command == "doctor", "force": flags.leave}
    for flag, is_there in needed.items():
        if getattr(flags, flag) and not is_there:
            raise ConfigError(
                f"--{flag} belongs to {'--leave' if flag == 'force' else COMMANDS[flag == 'json']}"
            )
    if flags.leave and flags.command:
        raise ConfigError(f"--leave and {flags.command} do not go together")


def _start(flags: argparse.Namespace, options: _Options, timing: Timing) -> int:
    """Run the agent, or have a keeper run it, if the owner at the terminal wants that."""
    config = replace(build_config(flags, os.environ), timing=timing)
    log_file = options.get("log_file", str)
    hint = ""
    if sys.platform == "win32":
        logger.warning("the agent is experimental on Windows")
    elif not offer.is_kept(place := Place.here(config.data_dir)):
        at_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
        if at_terminal and offer.ask(place, sys.stdin):
            from retire_cluster.agent.life import keep

            return keep(_device(options), config, log_file, None, _run_agent)
        hint = offer.hint(place, own_command(sys.modules["__main__"]))

    def make() -> "Runtime":
        from retire_cluster.agent.purposes import Worker

        return Worker(config, log_file, hint)

    _run_agent(make)
    logger.info("stopped")
    return ExitCode.STOPPED


def _live(flags: argparse.Namespace, options: _Options, timing: Timing) -> int:
    """`keep` and `--leave`."""
    from retire_cluster.agent import life

    device = _device(options)
    keeper = options.get("keeper", _keeper)
    if flags.undo:
        return life.unkeep(device)

    def config() -> AgentConfig:
        return replace(build_config(flags, _remembering(device.state_dir)), timing=timing)

    if flags.leave:
        return life.leave(device, config, _run_agent, force=flags.force)
    log_file = _Options(flags, _remembering(device.state_dir)).get("log_file", str)
    return life.keep(device, config(), log_file, keeper, _run_agent)


async def _doctor(flags: argparse.Namespace, options: _Options) -> int:
    from retire_cluster.agent.doctor import checks
    from retire_cluster.agent.doctor.look import look

    device = _device(options)
    config, problem = None, None
    try:
        config = build_config(flags, _remembering(device.state_dir))
    except ConfigError as error:
        problem = str(error)
    findings = checks.examine(await look(device, config, problem))
    if flags.json:
        print(json.dumps(checks.as_json(findings), indent=2, ensure_ascii=False))
    else:
        print(*checks.as_text(findings), sep="\n")
    return 1 if any(item.level is checks.Level.FAIL for item in findings.values()) else 0


def _device(options: _Options) -> "Device":
    """The agent of this data directory."""
    from retire_cluster.agent.life import Device

    return Device.here(_data_dir(options), own_command(sys.modules["__main__"]), print)


def _remembering(state_dir: Path) -> dict[str, str]:
    """The environment, and below it the settings with which the device joined."""
    from retire_cluster.agent.keeping import settings as remembered

    given = {name: text for name, text in os.environ.items() if text}  # an empty one counts as unset
    return {**remembered.variables(remembered.load(state_dir)), **given}


def _run_agent(make: Callable[[], "Runtime"]) -> None:
    """Run what `make` makes until it ends; a signal stops it. Raises what it raises."""
    lean.defer("importlib", "metadata")  # websockets imports it for its developers: 1.5 MB, with all of email

    async def work() -> int:
        runtime = make()  # here: to import it before there is a loop costs a megabyte
        _on_signals(runtime.stop)
        await runtime.run()
        return ExitCode.STOPPED

    _run(work())


def _run(work: Any) -> int:
    """Run the coroutine in a loop of its own; its helper threads are told to end, not waited for."""
    threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=THREAD_NAME)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(threads)
    try:
        code: int = loop.run_until_complete(work)
        return code
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _on_signals(stop: Callable[[], None]) -> None:
    """Stop at the first Ctrl-C or SIGTERM; leave at once at the second."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def handle(number: int) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, handle, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda found, _: loop.call_soon_threadsafe(handle, found))


class _PlainLines(logging.Formatter):
    """For a person at a terminal: time and message, secrets masked."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def _set_up_logging(options: _Options) -> None:
    """Plain lines for a person at a terminal; JSON lines in a file, or where standard error is none."""
    file = logs.file_options(options.get("log_file", str) or "")
    handlers: list[logging.Handler] = [SharedFile(**file)] if file else []
    if sys.stderr.isatty() or not file:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        at_terminal = sys.stderr.isatty() and isinstance(handler, logging.StreamHandler)
        plain = _PlainLines("%(asctime)s %(message)s", "%H:%M:%S")
        handler.setFormatter(plain if at_terminal else logs.JSONFormatter())
    level = logging.DEBUG if options.is_set("debug") else logging.INFO
    logging.basicConfig(level=level, handlers=handlers, force=True)


if __name__ == "__main__":
    sys.exit(main())
