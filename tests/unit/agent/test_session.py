import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.agent import session
from retire_cluster.agent.session import merge_accepted
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import Accepted, HeartbeatAck, Message, Result
from retire_cluster.protocol.states import Outcome

IDS = [f"{number:032x}" for number in range(6)]


def accepted(*attempts: str) -> Accepted:
    return Accepted(attempts=attempts)


def result(attempt: str) -> Result:
    return Result(attempt=attempt, outcome=Outcome.SUCCESS)


def test_accepted_messages_become_one_at_the_place_of_the_first() -> None:
    a, b, *_ = IDS
    messages: list[Message] = [HeartbeatAck(), accepted(a), result(a), accepted(b), accepted(a)]
    assert list(merge_accepted(messages)) == [HeartbeatAck(), accepted(a, b), result(a)]


def test_very_many_are_cut_to_what_one_message_holds() -> None:
    many = [accepted(f"{number:032x}") for number in range(5000)]
    merged = list(merge_accepted(many))
    assert [len(message.attempts) for message in merged if isinstance(message, Accepted)] == [4096, 904]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(IDS))))
def test_nothing_is_lost_and_no_accepted_comes_later_than_before(steps: list[tuple[bool, str]]) -> None:
    messages: list[Message] = [accepted(a) if is_accepted else result(a) for is_accepted, a in steps]
    merged = list(merge_accepted(messages))
    assert [m for m in merged if isinstance(m, Result)] == [m for m in messages if isinstance(m, Result)]
    ids = [a for m in merged if isinstance(m, Accepted) for a in m.attempts]
    assert sorted(ids) == sorted({a for is_accepted, a in steps if is_accepted})
    if ids:
        first = next(index for index, m in enumerate(messages) if isinstance(m, Accepted))
        assert isinstance(merged[first], Accepted)


class Wire:
    """A connection that keeps the frames it is given."""

    def __init__(self) -> None:
        self.frames: list[str] = []

    async def send(self, frame: str) -> None:
        self.frames.append(frame)


@pytest.mark.parametrize("ends", [True, False], ids=["a short task", "a longer one"])
def test_a_short_task_is_accepted_and_done_in_one_frame(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ACCEPTED_S", 0.0 if not ends else 3600.0)
    wire = Wire()

    async def talk() -> None:
        talking = session.Session(wire, None, None, None)  # type: ignore[arg-type]  # only what sends is used
        sender = asyncio.create_task(talking._keep_sending())
        talking.send(accepted(IDS[0]))
        if ends:
            await asyncio.sleep(0)
            talking.send(result(IDS[0]))
        while not wire.frames:
            await asyncio.sleep(0)
        sender.cancel()

    asyncio.run(talk())
    [frame] = wire.frames
    said = codec.decode_from_agent(frame)
    assert [type(message) for message in said] == ([Accepted, Result] if ends else [Accepted])
