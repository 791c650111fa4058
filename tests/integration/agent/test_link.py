import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from retire_cluster.agent.address import Address
from retire_cluster.agent.errors import ExitCode
from retire_cluster.agent.waycheck import check_way
from retire_cluster.protocol.messages import Register
from tests.integration.agent.conftest import Certificate
from tests.integration.agent.fake_gateway import SECRET, FakeGateway, gateway, run, task, until
from tests.integration.agent.harness import agent


def token(pin: str) -> str:
    return f"rcj1_k3_{'7' * 64}_{pin}"


def test_it_joins_by_the_pin_whatever_the_certificates_dates_and_name(
    tmp_path: Path, certificate: Certificate
) -> None:
    async def scenario() -> None:
        async with gateway(certificate.context) as server:
            async with agent(tmp_path, server, token=token(certificate.pin)):
                assert (await server.joined()).join_token == token(certificate.pin)
            async with agent(tmp_path, server, token=None):
                assert (await server.joined(2)).secret == SECRET, "the pin is kept with the secret"

    run(scenario)


def test_another_certificate_gets_not_a_byte_of_the_secret(
    tmp_path: Path, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway(Certificate(tmp_path, "impostor").context) as impostor:
            async with agent(tmp_path, impostor, token=token(certificate.pin)):
                await until(lambda: caplog.text.count("is not the one the token names") >= 2, "two refusals")
            assert impostor.bytes_seen == 0
            assert impostor.received == []
        assert "7777" not in caplog.text

    run(scenario)


def test_a_known_device_does_not_show_its_secret_to_another_certificate(
    tmp_path: Path, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    given = token(certificate.pin)

    async def scenario() -> None:
        async with gateway(certificate.context) as server, agent(tmp_path, server, token=given):
            await server.joined()
            await server.stop()
            server.tls = Certificate(tmp_path, "impostor").context
            seen = server.bytes_seen
            await server.start()
            await until(lambda: "is not the one the token names" in caplog.text, "a refusal")
            assert server.bytes_seen == seen

    run(scenario)


def test_the_very_bytes_on_the_wire_hold_no_secret(tmp_path: Path, certificate: Certificate) -> None:
    """A server that records what TLS carries: with a wrong pin not even the upgrade request is sent."""

    async def scenario() -> None:
        seen: list[bytes] = []
        ended = asyncio.Event()

        async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                seen.append(await reader.read())
            except ConnectionResetError:
                seen.append(b"")
            writer.close()
            ended.set()

        async with await asyncio.start_server(record, "127.0.0.1", 0, ssl=certificate.context) as server:
            port = server.sockets[0].getsockname()[1]
            here = (Address("127.0.0.1", port),)
            async with agent(tmp_path, join=here, token=token("0" * 64)):
                await ended.wait()
        assert set(seen) == {b""}

    run(scenario)


def test_a_pin_is_not_satisfied_by_a_plain_gateway(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway() as plain, agent(tmp_path, plain, token=token("0" * 64)):
            await until(lambda: "next try" in caplog.text, "a refusal")
            assert plain.all(Register) == []

    run(scenario)


def test_off_loopback_a_token_without_a_pin_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = (Address("192.0.2.7"),)
        async with agent(tmp_path, token="my-own", join=remote) as refused:
            ending = await refused.refusal()
        assert ending.code is ExitCode.USAGE
        assert "--insecure-plain" in ending.message
        async with agent(tmp_path, token=None, join=remote, insecure_plain=True) as refused:
            ending = await refused.refusal()
        assert ending.code is ExitCode.USAGE
        assert "--token" in ending.message

    run(scenario)


def test_an_authority_is_verified_by_chain_and_name(
    tmp_path: Path, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway(certificate.context) as server:
            async with agent(tmp_path, server, ca_file=str(certificate.file)):
                await until(
                    lambda: "not valid for --ca" in caplog.text, "a refusal of the expired certificate"
                )
            assert server.received == []

    run(scenario)


def test_the_embedded_node_works_in_uvloop_too(tmp_path: Path, certificate: Certificate) -> None:
    async def scenario() -> None:
        given = token(certificate.pin)
        async with gateway(certificate.context) as server, agent(tmp_path, server, token=given) as node:
            await server.joined()
            job = task()
            await server.send(job)
            await server.result(job.attempt)
            await node.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


# --- what answers is no gateway -----------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(data: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "no Retire-Cluster gateway \\(HTTP 404\\)"),
        (b"HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n", "not ready yet"),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP 301"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak our protocol"),
        (b"", "closed the connection|does not speak our protocol"),
    ],
)
def test_something_else_that_answers_is_named(
    tmp_path: Path, data: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    import re

    caplog.set_level("INFO")

    async def scenario() -> None:
        async with await asyncio.start_server(saying(data), "127.0.0.1", 0) as server:
            here = (Address("127.0.0.1", server.sockets[0].getsockname()[1]),)
            async with agent(tmp_path, join=here):
                await until(lambda: caplog.text.count("next try") >= 2, "two tries")
        assert re.search(words, caplog.text)

    run(scenario)


def test_an_outage_is_told_try_by_try_while_pauses_grow_and_then_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    def told(words: str, level: str) -> int:
        return sum(words in record.getMessage() and record.levelname == level for record in caplog.records)

    async def outage(server: FakeGateway, number: int) -> None:
        await until(lambda: server.connections, "a connection")
        await server.stop()
        await until(lambda: told("trying again every", "DEBUG") >= 10 * number, "silent tries")
        assert told("running? (trying again every 0.025 to 0.05 s)", "INFO") == number
        await server.start()

    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await outage(server, 1)
            await outage(server, 2)
            await until(lambda: server.connections, "a connection")
        assert told("next try in", "INFO") > 0
        assert told("next try in", "DEBUG") == 0

    run(scenario)


def test_a_port_that_accepts_and_says_nothing_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            here = (Address("127.0.0.1", server.sockets[0].getsockname()[1]),)
            async with agent(tmp_path, join=here, timing={"connect_s": 0.05}):
                await until(lambda: "no answer within 0.05 s" in caplog.text, "a line about it")

    run(scenario)


# --- --test -------------------------------------------------------------------------------------------------


def way(
    address: Address, token_given: str | None = None, ca_file: str | None = None
) -> "asyncio.Task[list[str]]":
    async def check() -> list[str]:
        lines: list[str] = []
        passed = await check_way(address, token_given, ca_file, lines.append)
        return [str(passed), *lines]

    return asyncio.create_task(check())


def test_the_way_is_clear(tmp_path: Path, certificate: Certificate) -> None:
    async def scenario() -> None:
        async with gateway() as plain, gateway(certificate.context) as tls:
            for server, given, words in [
                (plain, None, "plain"),
                (tls, None, "not checked"),
                (tls, token(certificate.pin), "the one the token names"),
            ]:
                result, name, port, link, protocol = await way(Address("localhost", server.port), given)
                assert result == "True"
                assert "127.0.0.1" in name
                assert "is open" in port
                assert words in link
                assert "speaks our protocol" in protocol
                assert server.received == [], "nothing is sent"

    run(scenario)


def test_each_obstacle_is_named(tmp_path: Path, certificate: Certificate) -> None:
    async def scenario() -> None:
        async with gateway() as server, gateway(certificate.context) as tls:
            await server.stop()
            assert "nothing listens there" in (await way(Address("127.0.0.1", server.port)))[-1]
            wrong = await way(Address("127.0.0.1", tls.port), token("0" * 64))
            assert wrong[0] == "False"
            assert "is not the one the token names" in wrong[-1]
            assert tls.received == []
            unknown = await way(Address("no-such-host.invalid"))
            assert unknown[1].startswith("FAILED  name: ")
            await server.start()

    run(scenario)
