"""Link numbers: no crash makes an honest device look like a copy, and no copy lives beside its original.

An exhaustive search over every order of connections, lost frames, failing disks, kills, power cuts and server
crashes. The server decides by devices/links.py; what carries it out mirrors devices/services.py and the agent's
`_remember` and IdentityStore.save.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from devices import links
from devices.links import LinkVerdict

MAX_CONNECTIONS = 4


class Agent(NamedTuple):
    """One machine with the device's data."""

    disk: int = 0  # survives a power cut
    file: int = 0  # what a reader sees now
    shown: int | None = None  # what the process would show; None: it does not run
    run: int = 0  # its process
    received: int | None = None  # the welcome it is about to store
    saving: bool = False  # the file is replaced, its directory not synced yet
    linked: int | None = None  # the session it believes in


class State(NamedTuple):
    agents: tuple[Agent, ...]
    confirmed: int = 0
    given: int = 0
    run: int = 0  # of the last accepted registration
    owner: int = -1  # which agent the current session belongs to
    under_way: tuple[tuple[int, int], ...] = ()  # (agent, number) of welcomes not read yet
    acks: tuple[tuple[int, int], ...] = ()  # (session, number) not read yet
    late: tuple[tuple[int, int, int], ...] = ()  # (agent, shown, run): registrations still under way
    refused: tuple[int, ...] = ()  # agents that were called copies
    proved: tuple[int, ...] = ()  # whose confirmations counted, in order
    runs: int = 0
    faults: int = 0


class Way(NamedTuple):
    name: str
    state: State


def changed(state: State, index: int, **values: object) -> State:
    agents = list(state.agents)
    agents[index] = agents[index]._replace(**values)  # type: ignore[arg-type]  # fields of an Agent
    return state._replace(agents=tuple(agents))


def register(state: State, index: int, shown: int, run: int) -> State:
    """What devices.services.register does; the welcome may be lost with the server."""
    verdict = links.judge(shown, confirmed=state.confirmed, same_run=run == state.run)
    if verdict is LinkVerdict.COPIED:
        return state._replace(refused=(*state.refused, index))
    if verdict is LinkVerdict.LATE:
        return state
    number = links.following(state.given, shown)
    return state._replace(confirmed=shown, given=number, run=run, owner=index, under_way=((index, number),))


def events(state: State) -> Iterator[Way]:
    for index, here in enumerate(state.agents):
        yield from process(state, index, here)
        if state.faults and here.shown is not None:
            yield from faults(state._replace(faults=state.faults - 1), index, here)
    for index, number in state.under_way:
        if state.agents[index].linked == -1:
            read = state._replace(under_way=())
            yield Way(
                f"{index} is welcomed as {number}", changed(read, index, received=number, linked=number)
            )
        if state.faults:
            lost = state._replace(under_way=(), faults=state.faults - 1)
            yield Way(
                "the welcome is lost, or the server dies before it leaves", changed(lost, index, linked=None)
            )
    for session, number in state.acks:
        left = state._replace(acks=tuple(item for item in state.acks if item != (session, number)))
        if session == state.given == number:  # confirm_link: the current session only
            left = left._replace(confirmed=number, proved=(*state.proved, state.owner))
        yield Way(f"{number} is confirmed", left)
        if state.faults:
            gone = left._replace(confirmed=state.confirmed, proved=state.proved, faults=state.faults - 1)
            yield Way(f"the confirmation of {number} is lost", gone)
    for index, shown, run in state.late:
        left = state._replace(late=tuple(item for item in state.late if item != (index, shown, run)))
        yield Way(
            f"a late registration of {index} with {shown}",
            register(left, index, shown, run)._replace(under_way=left.under_way),
        )


def process(state: State, index: int, here: Agent) -> Iterator[Way]:
    """What the agent does by itself."""
    if index in state.refused:
        return
    if here.shown is None:  # starting syncs the directory: what is read is durable
        runs = state._replace(runs=state.runs + 1)
        yield Way(f"{index} starts", changed(runs, index, shown=here.file, disk=here.file, run=runs.runs))
        return
    if here.received is not None and not here.saving:
        yield Way(f"{index} replaces its file", changed(state, index, file=here.received, saving=True))
    elif here.received is not None:
        number = here.received
        kept = changed(state, index, disk=here.file, shown=number, received=None, saving=False)
        yield Way(f"{index} has stored {number}", kept._replace(acks=(*state.acks, (number, number))))
    elif here.linked is None and state.given < MAX_CONNECTIONS:
        dialled = changed(state._replace(acks=()), index, linked=-1)
        yield Way(f"{index} connects with {here.shown}", register(dialled, index, here.shown, here.run))
    if here.linked is not None and here.linked != -1 and here.received is None and state.owner != index:
        yield Way(f"{index} is replaced", changed(state, index, linked=None))
    if here.linked == -1 and not any(item == index for item, _ in state.under_way):
        yield Way(f"{index} gets no answer", changed(state, index, linked=None))


def faults(state: State, index: int, here: Agent) -> Iterator[Way]:
    fresh = {"shown": None, "received": None, "saving": False, "linked": None}
    deaf = state._replace(under_way=tuple(item for item in state.under_way if item[0] != index))
    # Not searched: a killed process whose registration arrives after its successor's confirmation. It looks like a
    # copy; docs/howto/copied-device.md says so.
    dead = deaf._replace(late=tuple(item for item in state.late if item[0] != index))
    yield Way(f"{index} is killed", changed(dead, index, **fresh))
    yield Way(f"the power of {index} fails", changed(dead, index, **fresh, file=here.disk))
    if here.linked is not None and here.received is None:
        yield Way(f"the link of {index} breaks", changed(deaf, index, linked=None))
    if here.received is not None:
        # The file may be the new one already, but that is not certain: the old number is shown.
        failed = changed(state, index, received=None, saving=False)
        yield Way(f"the disk of {index} is full", failed)
    if here.linked is None and state.given:
        again = state._replace(late=((index, here.shown or 0, here.run),))
        yield Way(f"a registration of {index} is under way for long", again)


def explore(start: State) -> dict[State, tuple[State, str] | None]:
    """Every state that can be reached, and how."""
    parents: dict[State, tuple[State, str] | None] = {start: None}
    waiting = [start]
    while waiting:
        state = waiting.pop()
        for name, after in events(state):
            if after not in parents:
                parents[after] = (state, name)
                waiting.append(after)
    return parents


def story(parents: dict[State, tuple[State, str] | None], state: State) -> str:
    names, way = [], parents[state]
    while way is not None:
        names.append(way[1])
        way = parents[way[0]]
    return "\n".join(reversed(names))


def only(count: int, faults: int) -> State:
    return State(tuple(Agent() for _ in range(count)), faults=faults)


def test_no_crash_or_lost_frame_makes_an_honest_device_a_copy() -> None:
    parents = explore(only(1, faults=3))
    assert len(parents) > 1000
    assert [story(parents, state) for state in parents if state.refused][:1] == []
    assert max(state.confirmed for state in parents) >= MAX_CONNECTIONS - 1


def test_two_copies_never_both_confirm_a_number() -> None:
    """Whoever confirms first is the device; the other is refused at its next connection."""
    parents = explore(only(2, faults=1))
    assert len(parents) > 1000
    both = [state for state in parents if len(set(state.proved)) > 1]
    assert [story(parents, state) for state in both][:1] == []
    found = [state for state in parents if state.refused]
    assert {index for state in found for index in state.refused} == {0, 1}


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        *((5, LinkVerdict.CURRENT), (6, LinkVerdict.CURRENT)),  # confirmed; given since
        *((4, LinkVerdict.COPIED), (0, LinkVerdict.COPIED)),
        (900, LinkVerdict.CURRENT),  # the server's own data is the older
        (None, LinkVerdict.CURRENT),  # an agent from before
    ],
)
def test_only_what_is_older_than_the_confirmed_number_is_a_copy_s(
    shown: int | None, verdict: LinkVerdict
) -> None:
    assert links.judge(shown, confirmed=5, same_run=False) is verdict


def test_a_late_registration_of_the_same_process_is_no_copy() -> None:
    assert links.judge(4, confirmed=5, same_run=True) is LinkVerdict.LATE


def test_no_number_is_given_twice() -> None:
    assert links.following(7, None) == 8
    assert links.following(7, 5) == 8
    assert links.following(7, 900) == 901
