"""The agent stores each link number before it confirms it, and shows none that is not on its disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.errors import ExitCode
from retire_cluster.agent.identity import Identity, IdentityStore
from retire_cluster.protocol.messages import Goodbye, LinkStored, Register
from tests.integration.agent.fake_gateway import FakeGateway, gateway, run, until
from tests.integration.agent.harness import agent


def stored(directory: Path) -> int:
    number: int = json.loads((directory / "agent" / "agent.json").read_text())["link_no"]
    return number


def shown(server: FakeGateway) -> list[int | None]:
    return [register.link_no for register in server.all(Register)]


def confirmed(server: FakeGateway) -> list[int]:
    return [message.link_no for message in server.all(LinkStored)]


FAILURE = "cannot store the link number"


async def break_link(server: FakeGateway) -> None:
    await server.connections.pop().close()


def test_a_number_is_on_disk_when_it_is_confirmed_and_shown_at_the_next_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server):
                assert (await server.next(LinkStored)).link_no == 1
                assert stored(tmp_path) == 1
                await break_link(server)
                assert (await server.next(LinkStored, 2)).link_no == 2
            async with agent(tmp_path, server):
                await server.next(LinkStored, 3)
            assert (shown(server), stored(tmp_path)) == ([0, 1, 2], 3)

    run(scenario)


def test_what_cannot_be_stored_is_neither_confirmed_nor_shown_and_the_agent_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = IdentityStore.save

    def full(store: IdentityStore, identity: Identity) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.next(LinkStored)
            monkeypatch.setattr(IdentityStore, "save", full)
            for connection in (2, 3):
                await break_link(server)
                await server.joined(connection)
                await until(lambda: caplog.text.count(FAILURE) == connection - 1, "a line for each")  # noqa: B023
            monkeypatch.setattr(IdentityStore, "save", save)
            await break_link(server)
            await server.next(LinkStored, 2)
            assert (shown(server), confirmed(server)) == ([0, 1, 1, 1], [1, 4])

    run(scenario)


def test_a_save_that_fails_after_it_replaced_the_file_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = IdentityStore.save

    def late(store: IdentityStore, identity: Identity) -> None:
        save(store, identity)
        raise OSError(5, "Input/output error")

    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.next(LinkStored)
            monkeypatch.setattr(IdentityStore, "save", late)
            await break_link(server)
            await server.joined(2)
            await until(lambda: server.connections and stored(tmp_path) == 2, "the file")
            monkeypatch.setattr(IdentityStore, "save", save)
            await break_link(server)
            assert (await server.next(LinkStored, 2)).link_no == 3
            assert shown(server) == [0, 1, 1]

    run(scenario)


def test_a_gateway_without_link_numbers_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.gives_link_numbers = False
            async with agent(tmp_path, server):
                await server.joined()
                await break_link(server)
                await server.joined(2)
            assert (shown(server), confirmed(server), stored(tmp_path)) == ([0, 0], [], 0)

    run(scenario)


def test_refused_as_a_copy_it_keeps_its_credential_and_says_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server):
                await server.next(LinkStored)
            server.refuse = Goodbye(code="cloned", reason="older")
            async with agent(tmp_path, server) as copy:
                ending = await copy.refusal()
            assert ending.code is ExitCode.CLONED
            assert "--device-id" in ending.message
            assert "--rejoin" in ending.message
            assert json.loads((tmp_path / "agent" / "agent.json").read_text())["secret"]

    run(scenario)


@pytest.mark.parametrize("number", [-1, True, 1.5, "1", None, 2**60])
def test_a_number_that_is_none_makes_the_file_a_damaged_one(tmp_path: Path, number: Any) -> None:
    (tmp_path / "agent.json").write_text(json.dumps({"device_id": "a", "link_no": number}))
    assert IdentityStore(tmp_path).load() is None
