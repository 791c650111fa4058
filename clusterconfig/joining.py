"""What a device needs to join besides a token: how the gateway speaks, and where it is."""

import shlex

from django.conf import settings

from clusterconfig import tokens
from retire_cluster.listeners import is_loopback, is_this_machine, lan_address

PROGRAM = "retire-cluster-worker"


def as_device_needs_it(text: str) -> str:
    """The token with the link of this installation's gateway, as the gateway last wrote it at its start.

    Without that file (the gateway runs on another machine) the token carries no link, and a device must be told
    with `--ca` or `--insecure-plain` how to connect.
    """
    return tokens.with_link(text, _known_link())


def command(token: str, *, reached_as: str = "") -> str:
    """The command that joins a device, to be run in a shell on it.

    `reached_as`: the name by which somebody reached this server, which its devices may know it by, too.
    """
    host = _host(tokens.link_of(token), reached_as)
    return shlex.join([PROGRAM, "--join", f"{host}:{settings.CLUSTER_PORT}", "--token", token])


def _known_link() -> str:
    try:
        return tokens.link_of((settings.DATA_DIR / tokens.LOCAL_TOKEN_FILE).read_text().strip())
    except OSError:
        return ""


def _host(link: str, reached_as: str) -> str:
    """Where devices reach the gateway. One without a link listens on loopback only."""
    if not is_this_machine(settings.CLUSTER_HOST):
        host: str = settings.CLUSTER_HOST
    elif reached_as and not is_loopback(reached_as):
        host = reached_as
    elif is_loopback(settings.CLUSTER_HOST) and not link:
        host = "127.0.0.1"
    else:
        host = lan_address()
    return f"[{host}]" if ":" in host else host
