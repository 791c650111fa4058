"""`retire-cluster-api`: the REST API and, where no gateway answers yet, the whole cluster in one process."""

import argparse
import os

from retire_cluster import env
from retire_cluster.cli import running
from retire_cluster.cli.options import Parser, add_common, parse, port

PROGRAM = "retire-cluster-api"


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 stopped, 1 a part died, 2 cannot start as asked."""
    return running.run(PROGRAM, lambda: _start(argv))


def _start(argv: list[str] | None) -> None:
    arguments = parse(_parser(), argv, _check)
    running.setup_django()
    from retire_cluster import launch

    with launch.api(arguments) as shape:
        running.serve(shape)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM, description="REST API and, unless one runs already, gateway and a local node."
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=port, help="port of the REST API (8081)")
    parser.add_argument(
        "--auth",
        nargs="?",
        const="on",
        choices=["on", "all"],
        help="keys on loopback too; all: no open reads",
    )
    parser.add_argument("--api-key", action="append", default=[], help="a key with every right (repeatable)")
    parser.add_argument("--cluster-host", help="where the gateway is (localhost)")
    parser.add_argument("--cluster-port", type=port, help="the gateway's port (8080)")
    parser.add_argument("--cluster-bind", help="address the embedded gateway listens on (same as --host)")
    parser.add_argument(
        "--embedded",
        action=argparse.BooleanOptionalAction,
        help="run gateway, Celery and a local node in this process (when no gateway answers)",
    )
    parser.add_argument("--no-local-node", action="store_true", help="this machine runs no tasks itself")
    parser.add_argument(
        "--hello", action="store_true", help="submit one echo at the start and show its result"
    )
    add_common(parser)
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Fill in variables and defaults, and hand the settings what they read."""
    arguments.host = arguments.host or env.text("API_HOST", "127.0.0.1")
    if arguments.port is None:
        arguments.port = env.integer("API_PORT", 8081, 0, 65_535)
    arguments.cluster_host = arguments.cluster_host or env.text("CLUSTER_HOST", "localhost")
    if arguments.cluster_port is None:
        arguments.cluster_port = env.integer("CLUSTER_PORT", 8080, 0, 65_535)
    arguments.cluster_bind = arguments.cluster_bind or arguments.host
    os.environ[env.PREFIX + "CLUSTER_HOST"] = arguments.cluster_host
    if arguments.cluster_port:
        os.environ[env.PREFIX + "CLUSTER_PORT"] = str(arguments.cluster_port)
    if arguments.api_key:
        os.environ[env.PREFIX + "API_KEY"] = ",".join(arguments.api_key)
    if arguments.auth:
        os.environ[env.PREFIX + "AUTH"] = arguments.auth
