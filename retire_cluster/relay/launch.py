"""From flags to a running relay: what is bound, whom it trusts, what is printed."""

import argparse
import asyncio
import logging.config
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from retire_cluster import env, hello, hosts, logs, tls
from retire_cluster.agent.address import Address, parse_address
from retire_cluster.agent.errors import ConfigError
from retire_cluster.listeners import Listener, bind, is_this_machine
from retire_cluster.relay.app import RelayApp
from retire_cluster.relay.health import Health, Probe
from retire_cluster.relay.peer import Peer, PeerError, choose
from retire_cluster.relay.upstream import Upstream
from retire_cluster.serving import PartDied, http, stop_on_signal
from retire_cluster.startup import StartupError


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run."""

    listener: Listener
    peer: Peer
    proxies: tuple[str, ...]
    own_names: tuple[str, ...]
    hello: bool
    notes: tuple[str, ...] = ()


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether this process is to relay: asked to, or its gateway is elsewhere and there is no database to share."""
    if arguments.relay:
        return True
    shares = bool(env.text("DATABASE_URL", ""))
    return not (arguments.embedded or shares or is_this_machine(arguments.cluster_host))


def run(arguments: argparse.Namespace, run_loop: Callable[..., None]) -> None:
    """Relay until SIGINT or SIGTERM. Raises StartupError, PartDied."""
    try:
        logging.config.dictConfig(logs.configuration(debug=env.flag("DEBUG", default=False)))
        peer = _peer(arguments)
        proxies = tuple(env.items("TRUSTED_PROXIES"))
        env.checked("TRUSTED_PROXIES", lambda: hosts.networks(proxies))
        shown = tls.given(arguments.tls_cert, arguments.tls_key)
        _check_auth(arguments)
    except (env.EnvError, PeerError, ConfigError) as error:
        raise StartupError(str(error)) from None
    listener = bind(arguments.host, arguments.port, flag="--port", tls=shown)
    with closing(listener.socket):
        own_names = tuple(env.items("ALLOWED_HOSTS"))
        run_loop(
            serve(
                Plan(listener, peer, proxies, own_names, arguments.hello, tuple(_without_effect(arguments)))
            )
        )


async def serve(plan: Plan) -> None:
    """Look whether the gateway is there, and serve, whatever the answer. Raises StartupError, PartDied."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def died(part: str, error: BaseException | None) -> None:
        if not over.done():
            over.set_exception(PartDied(f"the {part} ended: {error or 'without an error'}"))

    stop_on_signal(over)
    try:
        upstream = Upstream(plan.peer)
    except PeerError as error:
        raise StartupError(str(error)) from None
    try:
        began = time.monotonic()
        state = await _first_look(upstream)
        app = RelayApp(upstream, proxies=plan.proxies, own_names=plan.own_names)
        async with http(app, plan.listener, "relay", died, app.stop):
            # Not awaited: a first task takes its time, and a signal must not wait for it.
            threading.Thread(target=_greet, args=(plan, state, began), name="when-up", daemon=True).start()
            await over
    finally:
        await upstream.close()


# --- whom to trust --------------------------------------------------------------------------------------------


def _peer(arguments: argparse.Namespace) -> Peer:
    host = arguments.cluster_host.strip("[]")
    if not arguments.cluster_port:
        raise PeerError("--cluster-port: must be 1 to 65535, is 0")
    literal = f"[{host.partition('%')[0]}]" if ":" in host and "://" not in host else host
    parse_address(literal, "--cluster-host")
    ca_file = arguments.cluster_ca and str(Path(arguments.cluster_ca).expanduser())
    return choose(
        Address(host, arguments.cluster_port),
        pins=arguments.cluster_pin,
        ca_file=ca_file,
        token=env.text("JOIN_TOKEN", ""),
        plain=arguments.insecure_plain,
    )


def _check_auth(arguments: argparse.Namespace) -> None:
    """What would leave a door open that the operator believes closed."""
    if arguments.auth:
        raise StartupError(
            "--auth (RETIRE_CLUSTER_AUTH): a relay checks no keys, the gateway does; give it --auth there"
        )


async def _first_look(upstream: Upstream) -> Health:
    """The gateway's health. Raises StartupError where only a person can say whether it is the gateway."""
    state = await Probe(upstream).ask()
    if state.unvouched:
        raise StartupError(state.reason)
    return state


# --- what is printed ------------------------------------------------------------------------------------------


def _greet(plan: Plan, state: Health, began: float) -> None:
    print("\n".join(["", "Retire-Cluster's relay is up.", *lines(plan, state), ""]), flush=True)
    if plan.hello:
        print(hello.first_echo(plan.listener.url, began), flush=True)


def lines(plan: Plan, state: Health) -> list[str]:
    """What a person has to know of it."""
    answered = f"answers, {state.status}" if not state.reason else f"does not serve: {state.reason}"
    trust = "by its pinned certificate" if plan.peer.pins else "by --cluster-ca"
    found = [
        f"Relay to    the gateway at {plan.peer.address}, known {trust}"
        if plan.peer.tls
        else f"Relay to    the gateway at {plan.peer.address}, without encryption",
        "            this process has no data, no keys and no limits of its own: all of them are the gateway's",
        f"Dashboard   {plan.listener.url}/",
        f"REST API    {plan.listener.url}/api/v1",
        f"Gateway     {answered}",
        "            it counts all clients of this relay as one, and logs this machine's address for them, unless",
        "            RETIRE_CLUSTER_TRUSTED_PROXIES there names this machine",
    ]
    if not plan.listener.loopback:
        found.append("            whoever reaches this address reaches the gateway's API")
    return found + [f"            {note}" for note in plan.notes]


def _without_effect(arguments: argparse.Namespace) -> list[str]:
    """What was given and is for the gateway to be told."""
    given = {
        "--api-key": arguments.api_key,
        "--no-rate-limit": arguments.no_rate_limit,
        "--no-migrate": arguments.no_migrate,
        "--no-local-node": arguments.no_local_node,
        "RETIRE_CLUSTER_REDIS_URL": env.text("REDIS_URL", ""),
    }
    return [f"{name} has no effect here: give it to the gateway" for name, value in given.items() if value]
