"""`retire-cluster-main`: the gateway, with Celery's worker and beat unless a broker is configured."""

import argparse

from retire_cluster import env
from retire_cluster.cli import running
from retire_cluster.cli.options import Parser, Usage, add_common, parse, port

PROGRAM = "retire-cluster-main"


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 stopped, 1 a part died, 2 cannot start as asked."""
    return running.run(PROGRAM, lambda: _start(argv))


def _start(argv: list[str] | None) -> None:
    arguments = parse(_parser(), argv, _check)
    running.setup_django()
    from retire_cluster import launch

    with launch.gateway_only(arguments) as shape:
        running.serve(shape)


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="The cluster server that node agents connect to.")
    parser.option(
        "--host",
        lambda: env.text("CLUSTER_BIND", "0.0.0.0"),  # noqa: S104 the gateway's documented default, with TLS
        help="address to listen on (0.0.0.0)",
    )
    parser.option(
        "--port",
        lambda: env.integer("CLUSTER_PORT", 8080, 0, 65_535),
        type=port,
        help="port to listen on (8080)",
    )
    add_common(parser)
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.host.strip():
        raise Usage("--host: must not be empty")
