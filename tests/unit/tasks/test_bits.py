"""Sets of devices as numbers: beyond the few devices of the other tests, against a look at each."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.scheduling.bits import Gauge, Levels, Ordered, collect, each, lowest

amounts = st.integers(-5, 5000)


@given(st.lists(st.booleans()))
def test_a_set_is_whose_flag_is_set(flags: list[bool]) -> None:
    members = collect(flags)
    expected = [number for number, flag in enumerate(flags) if flag]
    assert list(each(members)) == expected
    assert not expected or lowest(members) == expected[0]


@given(st.lists(st.none() | amounts, max_size=300), st.floats(0.1, 5000))
def test_who_has_at_least_so_much_is_known_exactly(has: list[int | None], wanted: float) -> None:
    found = Ordered(has).at_least(wanted)
    assert list(each(found)) == [
        number for number, amount in enumerate(has) if amount is not None and amount >= wanted
    ]


@given(
    st.lists(amounts, min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 19), st.integers(0, 900))),
)
def test_a_gauge_leaves_nobody_out_and_lets_in_few(
    left: list[int], steps: list[tuple[int, int, int]]
) -> None:
    gauge = Gauge(left)
    for wanted, who, amount in steps:
        found = set(each(gauge.at_least(wanted)))
        assert {number for number, there in enumerate(left) if there >= wanted} <= found
        assert all(1.5 * left[number] >= wanted for number in found)
        assert wanted > 4 or all(left[number] >= wanted for number in found)
        gauge.take(who % len(left), amount)
        left[who % len(left)] -= amount


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5))),
)
def test_the_best_is_the_first_on_the_smallest_level(of: list[int], moves: list[tuple[int, int]]) -> None:
    levels = Levels([(level,) for level in of])
    everyone = collect(True for _ in of)
    for who, level in moves:
        assert levels.best(everyone) == (of.index(min(of)), (min(of),))
        of[who % len(of)] = level
        levels.move(who % len(of), (level,))
    assert levels.best(0) is None
