"""Command-line flags of the server commands; each has an environment variable that it beats."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from retire_cluster import __version__, env


class Usage(ValueError):
    """A flag or variable is unusable: one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse with its complaint on one line."""

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse says NoReturn: this raises
        raise Usage(message)


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, is {text!r}")
    return number


def add_common(parser: argparse.ArgumentParser) -> None:
    """Flags both servers have."""
    parser.add_argument("--data-dir", type=Path, help="database and secrets (~/.retire-cluster)")
    parser.add_argument("--insecure-plain", action="store_true", help="no TLS for agents, on any address")
    parser.add_argument("--no-migrate", action="store_true", help="refuse to start rather than migrate")
    parser.add_argument("--debug", action="store_true", help="detailed log and error traces")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def export(arguments: argparse.Namespace) -> None:
    """Hand flags to the settings, which read variables."""
    if arguments.data_dir is not None:
        os.environ[env.PREFIX + "DATA_DIR"] = str(arguments.data_dir.expanduser().resolve())
    if arguments.debug:
        os.environ[env.PREFIX + "DEBUG"] = "true"


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None, check: Callable[[argparse.Namespace], None]
) -> argparse.Namespace:
    """Parse, check and export. Raises Usage."""
    try:
        arguments = parser.parse_args(argv)
        check(arguments)
    except env.EnvError as error:
        raise Usage(str(error)) from None
    export(arguments)
    return arguments
