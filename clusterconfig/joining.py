"""What a device needs to join besides a token: the agent, how the gateway speaks, and where it is."""

import shlex

from django.conf import settings

from clusterconfig import tokens
from retire_cluster import zipapp
from retire_cluster.listeners import Listener, is_loopback, is_this_machine, lan_address
from retire_cluster.zipapp.line import join_line

PROGRAM = "retire-cluster-worker"
PLAIN = "plain"  # the link of a gateway without TLS


def as_device_needs_it(text: str) -> str:
    """The token with the link of this installation's gateway, as the gateway last wrote it at its start.

    Without that file (the gateway runs on another machine) the token carries no link, and a device must be told
    with `--ca` or `--insecure-plain` how to connect.
    """
    return tokens.with_link(text, _known_link())


def command(token: str, *, reached_as: str = "") -> str:
    """The line that makes a machine with python3 a device, to be run in a shell on it.

    `reached_as`: the name by which somebody reached this server, which its devices may know it by, too.
    """
    host = _host(tokens.link_of(token), reached_as)
    return _line(host, tokens.link_of(token) or _known_link(), token)


def update_command(*, reached_as: str = "") -> str:
    """The line that starts a device which joined before with this server's agent: its own secret lets it in."""
    link = _known_link()
    return _line(_host(link, reached_as), link)


def installed_command(token: str, *, reached_as: str = "") -> str:
    """The command that joins a device on which the agent was installed with pip."""
    host = _host(tokens.link_of(token), reached_as)
    return shlex.join([PROGRAM, "--join", _address(host, settings.CLUSTER_PORT), "--token", token])


def command_at(gateway: Listener, token: str) -> str:
    """The line for a gateway of this process."""
    everywhere = gateway.host in ("0.0.0.0", "::")  # noqa: S104 compared only
    host = settings.JOIN_HOST or (lan_address() if everywhere else gateway.host)
    digest = zipapp.archive().sha256
    return join_line(_address(host, gateway.port), tls=gateway.tls is not None, sha256=digest, token=token)


def _line(host: str, link: str, token: str = "") -> str:
    # Where nothing is known of a gateway elsewhere, TLS is likelier, and the safer thing to try.
    tls = link != PLAIN and bool(link or not is_loopback(host))
    digest = zipapp.archive().sha256
    return join_line(_address(host, settings.CLUSTER_PORT), tls=tls, sha256=digest, token=token)


def _known_link() -> str:
    try:
        return tokens.link_of((settings.DATA_DIR / tokens.LOCAL_TOKEN_FILE).read_text().strip())
    except OSError:
        return ""


def _host(link: str, reached_as: str) -> str:
    """Where devices reach the gateway. One without a link listens on loopback only."""
    host: str = settings.JOIN_HOST or settings.CLUSTER_HOST
    from_elsewhere = bool(reached_as) and not is_loopback(reached_as)
    if settings.JOIN_HOST or (not is_this_machine(host) and not (from_elsewhere and _is_bare(host))):
        return host
    if from_elsewhere:
        return reached_as
    if is_loopback(settings.CLUSTER_HOST) and not link:
        return "127.0.0.1"
    return lan_address()


def _is_bare(host: str) -> bool:
    """Whether it is a name without a domain: often one that only the containers of one machine know."""
    return "." not in host and ":" not in host


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
