from retire_cluster.agent.backoff import Backoff


def longest(low: float, high: float) -> float:
    return high


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(0.2, 30.0, longest)
    delays = [backoff.next() for _ in range(10)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_stable_connection_starts_it_anew() -> None:
    backoff = Backoff(0.2, 30.0, longest)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 0.2


def test_each_delay_is_spread_over_half_of_itself() -> None:
    asked: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    Backoff(0.2, 30.0, note).next()
    assert asked == [(0.1, 0.2)]


def test_a_very_long_outage_does_not_overflow() -> None:
    backoff = Backoff(0.2, 30.0)
    assert all(backoff.next() <= 30.0 for _ in range(5000))
