"""Which server is meant and with which key: flags, then variables, then what this machine's own cluster keeps."""

import argparse
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from retire_cluster import env
from retire_cluster.datadir import location
from retire_cluster.sdk import Client
from retire_cluster.terminal import advice
from retire_cluster.terminal.exits import Exit, Trouble

PORT = 8081
KEY_FILE = "api-key"
RETRIES = 2  # about a second: a person waits for the answer
_ANY = ("0.0.0.0", "::")  # noqa: S104 a server's own variable may say so; nothing is bound here


def add_options(parser: argparse.ArgumentParser, *, with_address: bool = False) -> None:
    """The flags of every command that talks to a server. What is not given is not set, see `complete`."""
    option = parser.add_argument_group("server and output").add_argument
    if with_address:
        option("--api", default=argparse.SUPPRESS, metavar="ADDRESS", help="HOST[:8081] or URL of the server")
    option("--api-key", default=argparse.SUPPRESS, metavar="KEY", help="the API key (RETIRE_CLUSTER_API_KEY)")
    option(
        "--ca", default=argparse.SUPPRESS, metavar="FILE", help="PEM file of an https:// server's authority"
    )
    option(
        "--json", default=argparse.SUPPRESS, action="store_true", help="print what the server says, as JSON"
    )


def complete(arguments: argparse.Namespace) -> argparse.Namespace:
    """Set what no flag did. Not before: in argparse a command within a command undoes the outer one's flags."""
    return argparse.Namespace(**{"api": None, "api_key": None, "ca": None, "json": False, **vars(arguments)})


def connect(arguments: argparse.Namespace, address: str | None, *, retries: int = RETRIES) -> Client:
    """The client for the server an address names (HOST[:PORT] or a URL). Raises Trouble."""
    root = root_of(address or _address_by_variables())
    try:
        return Client(f"{root}/api/v1", _key(arguments.api_key, root), ca=arguments.ca, retries=retries)
    except (ValueError, OSError) as error:
        raise Trouble(advice.of_arguments(error), Exit.USAGE) from None


def root_of(address: str) -> str:
    """The server's URL without a path. Raises Trouble."""
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or (PORT if "://" not in text else None)
    except ValueError as error:
        raise Trouble(
            f"{address!r} is no address: {error}; give HOST, HOST:PORT or a URL", Exit.USAGE
        ) from None
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    if parts.scheme not in ("http", "https") or not parts.hostname or path:
        raise Trouble(f"{address!r} is no address: give HOST, HOST:PORT or http(s)://HOST:PORT", Exit.USAGE)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _address_by_variables() -> str:
    given = env.text("API", "")
    if given:
        return given
    host = env.text("API_HOST", "127.0.0.1")
    host = "127.0.0.1" if host in _ANY else host
    return f"[{host}]:{_port()}" if ":" in host else f"{host}:{_port()}"


def _port() -> int:
    try:
        return env.integer("API_PORT", PORT, 1, 65_535)
    except env.EnvError as error:
        raise Trouble(str(error), Exit.USAGE) from None


def _key(given: str | None, root: str) -> str | None:
    """The flag, the variable, or the key this machine's own server keeps for local tools."""
    if given:
        return given
    by_variable = env.items("API_KEY")  # a server may accept several
    if by_variable:
        return by_variable[0]
    return _kept_key(location() / KEY_FILE) if _is_this_machine(root) else None


def _kept_key(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None  # another user's, or none: what needs no key still works, and the server names the rest


def _is_this_machine(root: str) -> bool:
    host = urlsplit(root).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
