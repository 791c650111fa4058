"""`retire-cluster`: daily work from a terminal."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from retire_cluster.sdk import Client
from retire_cluster.terminal import administration, devices, following, server, tasks
from retire_cluster.terminal.command import Parser, add_version, carried_out

PROGRAM = "retire-cluster"
Act = Callable[[Client, argparse.Namespace], int]

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Parser]


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Work with a Retire-Cluster: submit, watch and cancel tasks, care for devices.",
        epilog="The server: --api, else RETIRE_CLUSTER_API, else RETIRE_CLUSTER_API_HOST and _API_PORT, else this "
        "machine's. The key: --api-key, else RETIRE_CLUSTER_API_KEY, else the one this machine's server keeps. "
        "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 server unreachable, 124 time is up; `run` exits with "
        "its command's code, 125 when it was not run, 130 when it was cancelled.",
    )
    server.add_options(parser, with_address=True)  # before the command too; what stands behind it wins
    add_version(parser)
    commands = parser.add_subparsers(
        dest="command_name", metavar="COMMAND", required=True, parser_class=Parser
    )
    _add_tasks(commands)
    _add_devices(commands)
    _add_administration(commands)
    return parser


def _command(commands: "Commands", name: str, words: str, act: Act) -> Parser:
    made = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    server.add_options(made, with_address=True)
    made.set_defaults(act=act)
    return made


def _add_tasks(commands: "Commands") -> None:
    submit = _command(commands, "submit", "submit a task", tasks.submit)
    submit.add_argument("type", nargs="?", metavar="TYPE", help="as echo; `types` lists them")
    submit.add_argument("payload", nargs="?", metavar="PAYLOAD", help="a JSON object, @FILE, or - for stdin")
    submit.add_argument("--file", metavar="FILE", help="many tasks, one JSON object a line; - for stdin")
    submit.add_argument("--dry-run", action="store_true", help="only say where it could run")
    _add_wait(submit)
    tasks.add_placement(submit)

    run = _command(commands, "run", "run a command on some device, as if it ran here", following.run)
    run.add_argument("--env", action="append", metavar="NAME=VALUE", help="for its environment; repeatable")
    run.add_argument("--cwd", metavar="DIR", help="the directory on the device to run it in")
    run.add_argument("--detach", action="store_true", help="print the task's id and leave")
    tasks.add_placement(run)
    run.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="one word: for the shell"
    )

    listed = _command(commands, "tasks", "list tasks, or show one", tasks.tasks)
    listed.add_argument("task", nargs="?", metavar="TASK")
    listed.add_argument("--status", action="append", help="repeatable, as are the other filters")
    listed.add_argument("--type", action="append")
    listed.add_argument("--priority", action="append")
    listed.add_argument("--device", action="append")
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (20)")

    result = _command(commands, "result", "print a task's result", tasks.result)
    result.add_argument("task", metavar="TASK")
    _add_wait(result)

    logs = _command(commands, "logs", "print what a task printed", following.logs)
    logs.add_argument("task", metavar="TASK")
    logs.add_argument("-f", "--follow", action="store_true", help="until it ends")

    for name, words, act in (
        ("cancel", "end tasks", tasks.cancel),
        ("retry", "run tasks again that failed, timed out or were cancelled", tasks.retry),
    ):
        _command(commands, name, words, act).add_argument("task", nargs="+", metavar="TASK")
    explain = _command(commands, "explain", "say where a task can run, and why not elsewhere", tasks.explain)
    explain.add_argument("task", metavar="TASK")
    _command(commands, "types", "list the task types that devices offer", tasks.types)


def _add_wait(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="until it has ended; print its result")
    parser.add_argument(
        "--wait-s", type=_seconds, metavar="S", help="as --wait, but no longer than so many seconds"
    )


def _add_devices(commands: "Commands") -> None:
    listed = _command(commands, "devices", "list devices, or show one", devices.devices)
    listed.add_argument("device", nargs="?", metavar="DEVICE")
    listed.add_argument("--status", choices=("online", "offline", "all"))
    listed.add_argument("--role", metavar="ROLE")
    listed.add_argument("--tag", action="append", metavar="TAG", help="repeatable: all of them")

    for name, words, act in (
        ("drain", "give a device no new tasks, and those it has to others after the deadline", devices.drain),
        ("cordon", "give a device no new tasks", devices.cordon),
        ("uncordon", "give a device tasks again", devices.uncordon),
    ):
        made = _command(commands, name, words, act)
        made.add_argument("device", metavar="DEVICE")
        made.add_argument("--reason", metavar="TEXT", help="shown to others")
        if act is devices.drain:
            made.add_argument("--deadline", type=int, metavar="S", help="requeue what still runs then")
    ping = _command(commands, "ping", "test the way to a device's agent and back", devices.ping)
    ping.add_argument("device", metavar="DEVICE")
    remove = _command(commands, "remove", "remove a device for good", devices.remove)
    remove.add_argument("device", metavar="DEVICE")
    remove.add_argument("--yes", action="store_true", help="yes, for good")


def _add_administration(commands: "Commands") -> None:
    config = _command(commands, "config", "show or change the configuration", administration.config)
    config.add_argument(
        "section", nargs="?", metavar="SECTION", help="as heartbeat; `reset` for the defaults"
    )
    config.add_argument("change", nargs="*", metavar="NAME=VALUE", help="as interval=30")
    config.add_argument("--yes", action="store_true", help="yes, reset it")

    keys = _command(commands, "keys", "list, make and revoke API keys", administration.keys)
    key_actions = keys.add_subparsers(metavar="ACTION", parser_class=Parser)
    key = _command(key_actions, "create", "make a key", administration.create_key)
    key.add_argument("name", metavar="NAME")
    key.add_argument(
        "--scopes", type=_words, required=True, metavar="A,B", help="read, submit, operate, admin"
    )
    key.add_argument("--rate-limits", metavar="LIMITS", help="as 60/minute;1000/hour, or off")
    _add_bounds(key)
    revoke = _command(key_actions, "revoke", "revoke a key for good", administration.revoke_key)
    revoke.add_argument("id", metavar="ID")
    revoke.add_argument("--own", action="store_true", help="even if it is the key used here")

    tokens = _command(commands, "tokens", "list, make and revoke join tokens", administration.tokens)
    token_actions = tokens.add_subparsers(metavar="ACTION", parser_class=Parser)
    token = _command(token_actions, "create", "make a token", administration.create_token)
    token.add_argument("name", metavar="NAME")
    token.add_argument("--uses", type=int, metavar="N", help="for at most so many devices")
    token.add_argument("--role", metavar="ROLE", help="the role of its devices")
    token.add_argument("--tag", action="append", metavar="TAG", help="a tag of its devices; repeatable")
    token.add_argument("--slots", type=int, metavar="N", help="at most so many slots each")
    _add_bounds(token)
    revoke = _command(token_actions, "revoke", "revoke a join token", administration.revoke_token)
    revoke.add_argument("id", metavar="ID")


def _add_bounds(parser: Parser) -> None:
    parser.add_argument("--task-types", type=_words, metavar="A,B", help="only these types of tasks")
    parser.add_argument(
        "--expires", type=administration.duration, metavar="TIME", help="after 90s, 15m, 12h or 30d"
    )


def _seconds(text: str) -> float:
    found = float(text)
    if not found >= 0:  # nor is it "nan"
        raise argparse.ArgumentTypeError(f"must be a number of seconds, is {text!r}")
    return found


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def main(argv: list[str] | None = None) -> int:
    """The command; its exit code."""

    def act() -> int:
        arguments = server.complete(build_parser().parse_args(argv))
        with server.connect(arguments, arguments.api) as client:
            code: int = arguments.act(client, arguments)
            return code

    return carried_out(PROGRAM, act)
