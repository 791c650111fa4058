from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.agent.session import merge_accepted
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
