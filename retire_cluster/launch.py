"""From flags to a running shape: what is bound, made ready, printed."""

import argparse
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from clusterconfig import joining, keys, permissions, signin, tokens
from retire_cluster import db, env, hello, startup, tls
from retire_cluster.agent.identity import new_device_id
from retire_cluster.embedded import Shape
from retire_cluster.gateway import certificate
from retire_cluster.listeners import (
    Listener,
    bind,
    gateway_answers,
    is_loopback,
    is_this_machine,
)

GATEWAY_LOCK = "gateway.lock"


@contextmanager
def api(arguments: argparse.Namespace, began: float) -> Iterator[Shape]:
    """Everything `retire-cluster-api` runs. `began` is monotonic. Raises StartupError."""
    directory: Path = settings.DATA_DIR
    with ExitStack() as stack:
        own = tls.given(arguments.tls_cert, arguments.tls_key)
        listener = _closing(stack, bind(arguments.host, arguments.port, flag="--port", tls=own))
        gateway = _embedded_gateway(stack, arguments, directory)
        startup.prepare(directory, migrate=not arguments.no_migrate)
        stack.callback(db.fold_log)
        # Only this process knows that its own socket hears nobody but this machine.
        permissions.loopback_privilege = listener.loopback and not settings.AUTH
        key, created = keys.ensure_admin_key(directory, now=timezone.now())
        token = _standing_token(directory, gateway)
        settings.CLUSTER_PORT = gateway.port if gateway else arguments.cluster_port
        lines = [
            *_api_lines(listener, key, created),
            *_sign_in_lines(listener),
            *_gateway_lines(arguments, gateway, token),
        ]
        yield Shape(
            data_dir=directory,
            join_token=token,
            api=listener,
            gateway=gateway,
            celery=gateway is not None and not settings.BROKER_URL,
            local_node=_local_node_id() if gateway and not arguments.no_local_node else "",
            reusable_token=env.text("JOIN_TOKEN", ""),
            when_up=_when_up(lines, listener.url, began if arguments.hello else None),
            certificate_changed=_token_writer(directory, gateway),
        )


@contextmanager
def gateway_only(arguments: argparse.Namespace) -> Iterator[Shape]:
    """Everything `retire-cluster-main` runs. Raises StartupError."""
    directory: Path = settings.DATA_DIR
    with ExitStack() as stack:
        listener = _gateway(stack, arguments, directory, arguments.host, arguments.port, "--port")
        startup.prepare(directory, migrate=not arguments.no_migrate)
        stack.callback(db.fold_log)
        keys.ensure_admin_key(directory, now=timezone.now())
        token = _standing_token(directory, listener)
        settings.CLUSTER_PORT = listener.port
        yield Shape(
            data_dir=directory,
            join_token=token,
            gateway=listener,
            celery=not settings.BROKER_URL,
            reusable_token=env.text("JOIN_TOKEN", ""),
            when_up=_when_up(_gateway_lines(arguments, listener, token)),
            certificate_changed=_token_writer(directory, listener),
        )


# --- sockets --------------------------------------------------------------------------------------------------


def _embedded_gateway(stack: ExitStack, arguments: argparse.Namespace, directory: Path) -> Listener | None:
    """The gateway's socket where this process is to run one; None where it is elsewhere."""
    host, port = arguments.cluster_host, arguments.cluster_port
    if arguments.embedded is False or (arguments.embedded is None and not is_this_machine(host)):
        return None
    if arguments.embedded is None and port and gateway_answers("127.0.0.1", port):
        return None
    return _gateway(stack, arguments, directory, arguments.cluster_bind, port, "--cluster-port")


def _gateway(
    stack: ExitStack, arguments: argparse.Namespace, directory: Path, host: str, port: int, flag: str
) -> Listener:
    startup.ensure_directory(directory)
    shown = tls.given(arguments.tls_cert, arguments.tls_key)
    if shown is None and not is_loopback(host) and not arguments.insecure_plain:
        shown = certificate.ensure(directory)
    listener = _closing(stack, bind(host, port, flag=flag, tls=shown))
    if db.is_sqlite():
        stack.enter_context(startup.exclusive(directory / GATEWAY_LOCK, wait=False))
    return listener


def _closing(stack: ExitStack, listener: Listener) -> Listener:
    stack.callback(listener.socket.close)
    return listener


# --- secrets --------------------------------------------------------------------------------------------------


def _standing_token(directory: Path, gateway: Listener | None) -> str:
    """The join token for local tools; where this process runs the gateway, with how it speaks."""
    if gateway is None:
        return ""
    return tokens.local_token(directory, link=_link(gateway), now=timezone.now())


def _link(gateway: Listener) -> str:
    if gateway.tls is not None:
        return gateway.tls.fingerprint
    return "" if gateway.loopback else "plain"


def _token_writer(directory: Path, gateway: Listener | None) -> Callable[[], None]:
    """Writes the standing token anew, with the fingerprint of a renewed certificate."""

    def write() -> None:
        _standing_token(directory, gateway)

    return write


def _local_node_id() -> str:
    return f"{new_device_id(socket.gethostname()).rsplit('-', 1)[0]}-local"


# --- what is printed ------------------------------------------------------------------------------------------


def _api_lines(listener: Listener, key: str, created: bool) -> list[str]:
    file = settings.DATA_DIR / keys.ADMIN_KEY_FILE
    lines = [
        f"Dashboard   {listener.url}/",
        f"REST API    {listener.url}/api/v1",
        f"Admin key   {key}" if created else f"Admin key   kept in {file}",
    ]
    if created:
        lines.append(f"            shown only now; kept in {file}")
    if not listener.loopback and settings.AUTH != "all":
        lines.append(
            "            reading needs no key on this address; --auth all closes everything but /health"
        )
    return lines


def _sign_in_lines(listener: Listener) -> list[str]:
    """For whoever has just installed this; printed, never logged, like the key."""
    secret = signin.first_link(now=timezone.now())
    return [f"Sign in     {listener.url}{signin.path(secret)} (once, within 24 h)"] if secret else []


def _gateway_lines(arguments: argparse.Namespace, gateway: Listener | None, token: str) -> list[str]:
    if gateway is None:
        where = f"{getattr(arguments, 'cluster_host', '')}:{settings.CLUSTER_PORT}"
        lines = [f"Gateway     {where}, in another process"]
        if db.is_sqlite() and not settings.REDIS_URL:
            lines.append("            both share the SQLite file: changes cross within 1-2 s")
        return lines
    lines = [
        "Join        a device that has python3 (this line, in a shell on it):",
        f"            {joining.command_at(gateway, token)}",
    ]
    if gateway.loopback:
        lines.append("            only this machine can join; for others start with --host 0.0.0.0")
    return lines


def _when_up(lines: list[str], base_url: str = "", began: float | None = None) -> Callable[[], None]:
    """Tell what is where; with `began`, run a first task too."""

    def when_up() -> None:
        print("\n".join(["", "Retire-Cluster is up.", *lines, ""]), flush=True)
        if began is not None:
            print(hello.first_echo(base_url, began), flush=True)

    return when_up
