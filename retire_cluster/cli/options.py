"""Command-line flags of the server commands; each has an environment variable that it beats."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retire_cluster import __version__, env


class Usage(ValueError):
    """A flag or variable is unusable: one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse with its complaint on one line, and a variable behind every option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self._variables: dict[str, Callable[[], Any]] = {}

    def option(self, flag: str, variable: Callable[[], Any], **settings: Any) -> None:
        """Add a flag; where it is not given, the variable's reader answers, with the default."""
        action = self.add_argument(flag, default=None, **settings)
        self._variables[action.dest] = variable

    def switch(self, flag: str, variable: Callable[[], bool], **settings: Any) -> None:
        """Add a flag without a value."""
        self.option(flag, variable, action="store_true", **settings)

    def read_variables(self, arguments: argparse.Namespace) -> None:
        """Fill in what no flag said. Raises env.EnvError."""
        for name, read in self._variables.items():
            if getattr(arguments, name) is None:
                setattr(arguments, name, read())

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


def add_common(parser: Parser) -> None:
    """Flags both servers have."""
    parser.add_argument("--data-dir", type=Path, help="database and secrets (~/.retire-cluster)")
    parser.switch(
        "--insecure-plain",
        lambda: env.flag("INSECURE_PLAIN", default=False),
        help="no TLS between the gateway and others, on any address",
    )
    parser.option(
        "--tls-cert",
        lambda: env.text("TLS_CERT", ""),
        metavar="FILE",
        help="speak TLS with this certificate (PEM, with its chain)",
    )
    parser.option("--tls-key", lambda: env.text("TLS_KEY", ""), metavar="FILE", help="its private key (PEM)")
    parser.switch(
        "--no-migrate",
        lambda: env.flag("NO_MIGRATE", default=False),
        help="refuse to start rather than migrate",
    )
    parser.option(
        "--log-file",
        lambda: env.text("LOG_FILE", ""),
        metavar="FILE",
        help="write the log there, not to standard error; it rotates by size",
    )
    parser.add_argument("--debug", action="store_true", help="detailed log and error traces")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def export(arguments: argparse.Namespace) -> None:
    """Hand flags to the settings, which read variables themselves."""
    if arguments.data_dir is not None:
        os.environ[env.PREFIX + "DATA_DIR"] = str(arguments.data_dir.expanduser().resolve())
    if arguments.debug:
        os.environ[env.PREFIX + "DEBUG"] = "true"
    os.environ[env.PREFIX + "TLS_CERT"] = arguments.tls_cert
    os.environ[env.PREFIX + "LOG_FILE"] = arguments.log_file


def parse(
    parser: Parser, argv: list[str] | None, check: Callable[[argparse.Namespace], None]
) -> argparse.Namespace:
    """Parse, read variables, check and export. Raises Usage."""
    try:
        arguments = parser.parse_args(argv)
        parser.read_variables(arguments)
        check(arguments)
    except env.EnvError as error:
        raise Usage(str(error)) from None
    export(arguments)
    return arguments
