"""Knowing that PostgreSQL is away: asked once, refused at once, let through when it answers again."""

import threading

from retire_cluster.postgres.outage import Outage

PATIENCE_S = 30.0


class Server:
    """Answers when it may; says when somebody was let through again."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0
        self.back = threading.Event()
        self.outage = Outage(self._ask, self.back.set, ask_again_s=0.0)

    def _ask(self) -> str:
        self.asked += 1
        return "connection refused" if self.is_away else ""


def test_a_failure_of_a_server_that_answers_is_no_outage() -> None:
    server = Server()
    server.outage.suspect()
    assert (server.asked, server.outage.reason) == (1, "")


def test_an_outage_has_a_reason_until_the_server_answers_again() -> None:
    server = Server()
    server.is_away = True
    server.outage.suspect()
    assert server.outage.reason == "connection refused"
    server.is_away = False
    assert server.back.wait(PATIENCE_S)
    over = threading.Event()
    for _ in range(1000):
        if not server.outage.reason:
            over.set()
            break
        over.wait(0.01)
    assert over.is_set()


def test_who_comes_while_it_is_away_does_not_ask_again() -> None:
    server = Server()
    server.outage._watch = lambda: None  # type: ignore[method-assign]
    server.is_away = True
    for _ in range(5):
        server.outage.suspect()
    assert server.asked == 1
