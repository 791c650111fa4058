"""`--test HOST`: is the way to the gateway clear? Step by step, nothing secret sent, nothing joined."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from retire_cluster.agent.address import Address, Link, Trust
from retire_cluster.agent.explain import explain
from retire_cluster.agent.link import LinkError, connect

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step on the way found."""

    name: str  # name, port, link or gateway
    passed: bool
    words: str


Say = Callable[[Step], None]


async def check_way(
    address: Address, token: str | None, ca_file: str | None, say: Callable[[str], None]
) -> bool:
    """Try each step, say each result; whether all went well."""

    def tell(step: Step) -> None:
        say(f"{'ok      ' if step.passed else 'FAILED  '}{step.name}: {step.words}")

    return await walk(address, Trust.of_token(token or ""), ca_file, tell)


async def walk(address: Address, trust: Trust, ca_file: str | None, say: Say) -> bool:
    """Go step by step, up to the first that fails; whether none did."""
    return (
        await _check_name(address, say)
        and await _check_port(address, say)
        and await _check_gateway(address, trust, ca_file, say)
    )


async def _check_name(address: Address, say: Say) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return _failed(say, "name", f"no answer within {TIMEOUT_S:g} s; use the address instead of the name")
    except OSError as error:
        return _failed(say, "name", explain(error))
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    return _passed(say, "name", f"{address.host} is {addresses}")


async def _check_port(address: Address, say: Say) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        return _failed(
            say, "port", f"no answer within {TIMEOUT_S:g} s; open port {address.port} in the firewall"
        )
    except OSError as error:
        return _failed(say, "port", explain(error))
    writer.close()
    return _passed(say, "port", f"{address.port} is open")


async def _check_gateway(address: Address, trust: Trust, ca_file: str | None, say: Say) -> bool:
    """Open the WebSocket the way an agent would, and close it again."""
    problem = ""
    for link in _links(trust, ca_file):
        try:
            connection = await connect(address, link, TIMEOUT_S)
        except LinkError as error:
            problem = problem or str(error)
            continue
        await connection.close(patience_s=1.0)
        _passed(say, "link", _describe(link))
        return _passed(say, "gateway", "it speaks our protocol; join with --join and --token")
    return _failed(say, "gateway", problem)


def _links(trust: Trust, ca_file: str | None) -> list[Link]:
    """The links to try: the one that token or --ca ask for, else plain, then TLS with any certificate."""
    if ca_file is not None:
        return [Link(tls=True, ca_file=ca_file)]
    if trust.pin is not None:
        return [Link(tls=True, pin=trust.pin)]
    return [Link(tls=False)] if trust.plain else [Link(tls=False), Link(tls=True)]


def _describe(link: Link) -> str:
    if not link.tls:
        return "plain, without encryption"
    if link.pin is not None:
        return "TLS, and the certificate is the one the token names"
    if link.ca_file is not None:
        return "TLS, and the certificate is valid for --ca"
    return "TLS; whose certificate it is was not checked: give --token for that"


def _passed(say: Say, step: str, words: str) -> bool:
    say(Step(step, True, words))
    return True


def _failed(say: Say, step: str, words: str) -> bool:
    say(Step(step, False, words))
    return False
