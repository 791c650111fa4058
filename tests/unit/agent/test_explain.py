import asyncio
import errno
import socket
import ssl

import pytest

from retire_cluster.agent.explain import explain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "nothing listens there"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "cannot be resolved"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "reset the connection"),
        (OSError(errno.ENETUNREACH, "Connect call failed ('192.0.2.1', 1)"), "Network is unreachable"),
        (ssl.SSLError(1, "wrong version number"), "does the gateway speak plain"),
        (OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"), "nothing listens there"),
        (OSError("Multiple exceptions: [Errno 111] a, [Errno 101] b"), "check the address"),
    ],
)
def test_a_failure_says_what_to_do(error: Exception, words: str) -> None:
    assert words in explain(error)


def test_a_name_with_several_closed_addresses_is_simply_refused() -> None:
    async def fail() -> str:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            try:
                await asyncio.open_connection("localhost", unused.getsockname()[1], happy_eyeballs_delay=0.1)
            except OSError as error:
                return explain(error)
        return "connected"

    assert "nothing listens there" in asyncio.run(fail())
