"""`retire-cluster-api`: the REST API and, where no gateway answers yet, the whole cluster in one process."""

import argparse
import os
import time

from retire_cluster import env
from retire_cluster.cli import running
from retire_cluster.cli.options import Parser, Usage, add_common, parse, port

PROGRAM = "retire-cluster-api"


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 stopped, 1 a part died, 2 cannot start as asked."""
    began = time.monotonic()
    return running.run(PROGRAM, lambda: _start(argv, began))


def _start(argv: list[str] | None, began: float) -> None:
    arguments = parse(_parser(), argv, _check)
    from retire_cluster.relay import launch as relay

    if relay.is_wanted(arguments):
        relay.run(arguments, running.run_loop)
        return
    running.setup_django()
    from retire_cluster import launch

    with launch.api(arguments, began) as shape:
        running.serve(shape)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM, description="REST API and, unless one runs already, gateway and a local node."
    )
    _add_api_options(parser)
    _add_cluster_options(parser)
    add_common(parser)
    return parser


def _add_api_options(parser: Parser) -> None:
    option, switch = parser.option, parser.switch
    option("--host", lambda: env.text("API_HOST", "127.0.0.1"), help="address to listen on (127.0.0.1)")
    option(
        "--port",
        lambda: env.integer("API_PORT", 8081, 0, 65_535),
        type=port,
        help="port of the REST API (8081)",
    )
    option(
        "--auth",
        lambda: env.choice("AUTH", "", ("", "on", "all")),
        nargs="?",
        const="on",
        choices=["on", "all"],
        help="keys on loopback too; all: no open reads",
    )
    option(
        "--api-key",
        lambda: env.items("API_KEY"),
        action="append",
        help="a key with every right (repeatable)",
    )
    switch(
        "--no-rate-limit",
        lambda: env.text("RATE_LIMITS", "").lower() == "off",
        help="any number of calls per client",
    )


def _add_cluster_options(parser: Parser) -> None:
    option, switch = parser.option, parser.switch
    option(
        "--cluster-host",
        lambda: env.text("CLUSTER_HOST", "localhost"),
        help="where the gateway is (localhost)",
    )
    option(
        "--cluster-port",
        lambda: env.integer("CLUSTER_PORT", 8080, 0, 65_535),
        type=port,
        help="the gateway's port (8080)",
    )
    switch(
        "--relay",
        lambda: env.flag("RELAY", default=False),
        help="pass everything on to the gateway's API (on another machine, without a shared database: always)",
    )
    option(
        "--cluster-pin",
        lambda: env.items("CLUSTER_PIN"),
        action="append",
        metavar="SHA256",
        help="as a relay: the gateway's certificate (repeatable: the present and the next)",
    )
    option(
        "--cluster-ca",
        lambda: env.text("CLUSTER_CA", ""),
        metavar="FILE",
        help="as a relay: verify the gateway's certificate by this authority",
    )
    option(
        "--cluster-bind",
        lambda: env.text("CLUSTER_BIND", ""),
        help="address the embedded gateway listens on (same as --host)",
    )
    option(
        "--embedded",
        lambda: env.optional_flag("EMBEDDED"),
        action=argparse.BooleanOptionalAction,
        help="run gateway, Celery and a local node in this process (when no gateway answers)",
    )
    switch(
        "--no-local-node",
        lambda: env.flag("NO_LOCAL_NODE", default=False),
        help="this machine runs no tasks itself",
    )
    switch(
        "--hello",
        lambda: env.flag("HELLO", default=False),
        help="submit one echo at the start and show its result",
    )


def _check(arguments: argparse.Namespace) -> None:
    """Derived defaults, and what the settings read."""
    if arguments.relay and arguments.embedded:
        raise Usage("--relay and --embedded exclude each other: a relay runs nothing itself")
    arguments.cluster_bind = arguments.cluster_bind or arguments.host
    os.environ[env.PREFIX + "CLUSTER_HOST"] = arguments.cluster_host
    if arguments.cluster_port:
        os.environ[env.PREFIX + "CLUSTER_PORT"] = str(arguments.cluster_port)
    os.environ[env.PREFIX + "API_KEY"] = ",".join(arguments.api_key)
    os.environ[env.PREFIX + "AUTH"] = arguments.auth
    if arguments.no_rate_limit:
        os.environ[env.PREFIX + "RATE_LIMITS"] = "off"
