"""Sliding windows, against a model that remembers everything."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster import env, hosts
from retire_cluster.api import rates
from retire_cluster.api.rates import MemoryStore, Window, parse


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_limits_are_read_shortest_window_first() -> None:
    assert parse("1000/hour; 60/minute") == (Window(60, 60, "60/minute"), Window(1000, 3600, "1000/hour"))
    assert parse("5 per 10 seconds") == (Window(5, 10, "5/10 second"),)
    assert parse("off") == parse(" OFF ") == ()


@pytest.mark.parametrize(
    "text", ["", "x", "60", "60/fortnight", "0/minute", "1/month", "-1/minute", "9999999/day"]
)
def test_other_limits_are_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="must "):
        parse(text)


def test_room_comes_back_call_by_call() -> None:
    clock = Clock()
    store, windows = MemoryStore(clock), parse("2/minute")
    store.hit("a", windows)
    clock.now += 40
    store.hit("a", windows)

    refused = store.hit("a", windows).refused
    assert refused is not None
    assert refused.frees_in_s == pytest.approx(20)
    clock.now += 20
    assert store.hit("a", windows).refused is None
    assert store.hit("a", windows).refused is not None


def test_a_lowered_limit_holds_at_once_and_says_when_it_ends() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    for _ in range(5):
        store.hit("a", parse("5/minute"))
        clock.now += 1

    refused = store.hit("a", parse("2/minute")).refused

    assert refused is not None
    assert refused.frees_in_s == pytest.approx(58)


def test_a_refused_call_costs_nothing() -> None:
    clock = Clock()
    store, windows = MemoryStore(clock), parse("1/second;3/hour")
    for _ in range(50):
        store.hit("a", windows)
        clock.now += 0.1

    assert store.hit("a", windows).refused is not None
    assert len(store._calls["a"]) == 3


def test_of_two_full_windows_the_longer_wait_is_told() -> None:
    store, windows = MemoryStore(Clock()), parse("1/minute;1/hour")
    store.hit("a", windows)
    refused = store.hit("a", windows).refused

    assert refused is not None
    assert refused.window.text == "1/hour"


def test_a_call_given_back_leaves_the_earlier_ones() -> None:
    clock = Clock()
    store, windows = MemoryStore(clock), parse("2/minute")
    store.give_back("a", windows)  # there is none: nothing happens
    store.hit("a", windows)
    clock.now += 40
    store.hit("a", windows)
    store.give_back("a", windows)

    assert store.hit("a", windows).refused is None
    refused = store.hit("a", windows).refused
    assert refused is not None
    assert refused.frees_in_s == pytest.approx(20)


def test_clients_that_went_quiet_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_CLIENTS", 3)
    store = MemoryStore(Clock())
    for name in "abcad":
        store.hit(name, parse("9/minute"))

    assert list(store._calls) == ["c", "a", "d"]


@given(
    st.lists(st.floats(0, 30), max_size=80),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_the_windows_admit_exactly_what_they_allow(pauses: list[float], short: int, long: int) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    windows = (Window(short, 10, "short"), Window(long, 60, "long"))
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        free = [
            window.amount - len([at for at in admitted if at > clock.now - window.seconds])
            for window in windows
        ]
        verdict = store.hit("a", windows)
        assert (verdict.refused is None) == all(room > 0 for room in free)
        if verdict.refused is None:
            admitted.append(clock.now)
            assert [count.remaining for count in verdict.counts] == [room - 1 for room in free]


def test_fifty_threads_get_no_call_too_many() -> None:
    store, windows = MemoryStore(), parse("500/hour")
    admitted: list[bool] = []
    start = threading.Barrier(50)

    def call() -> None:
        start.wait()
        admitted.extend(store.hit("a", windows).refused is None for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(admitted), sum(admitted)) == (1000, 500)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:80 ", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "None"),
        ("", "None"),
    ],
)
def test_addresses_as_headers_carry_them(text: str, address: str) -> None:
    assert str(hosts.address(text)) == address


def test_a_proxy_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(env.EnvError, match=r"RETIRE_CLUSTER_TRUSTED_PROXIES: 'proxy\.lan'"):
        env.checked("TRUSTED_PROXIES", lambda: hosts.networks(("10.0.0.1", "proxy.lan")))
