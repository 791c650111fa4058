"""Rate limits: who is counted, what every answer says, when it is too much."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusterconfig import keys, throttling
from clusterconfig.keys import Scope
from tests.contract.conftest import Api

pytestmark = pytest.mark.django_db

Keyed = Callable[..., Api]
WRONG = {"X-API-Key": "wrong"}


@pytest.fixture(autouse=True)
def limited(settings: Any) -> Iterator[Any]:
    """Limits as they are by default, nobody counted yet."""
    settings.RATE_LIMITS = "60/minute;1000/hour"
    settings.REDIS_URL = ""
    throttling.forget()
    yield settings
    throttling.forget()


def _left(answer: Any) -> int:
    return int(answer["X-RateLimit-Remaining"])


def test_the_first_call_leaves_59(api: Api) -> None:
    before = time.time()
    answer = api.get("tasks")

    assert (answer["X-RateLimit-Limit"], answer["X-RateLimit-Remaining"]) == ("60", "59")
    assert before + 59 <= int(answer["X-RateLimit-Reset"]) <= time.time() + 61
    assert _left(api.get("tasks")) == 58


def test_the_61st_call_is_429_with_the_time_to_wait(api: Api) -> None:
    answers = [api.get("tasks") for _ in range(61)]
    last = answers.pop()
    body = last.json()
    wait = int(last["Retry-After"])

    assert {answer.status_code for answer in answers} == {200}
    assert [_left(answer) for answer in answers] == list(range(59, -1, -1))
    assert (last.status_code, body["status"], body["error_code"]) == (429, "error", "RATE_LIMIT_EXCEEDED")
    assert body["error_details"] == {"limit": "60/minute", "retry_after_seconds": wait}
    assert 1 <= wait <= 60
    assert (last["X-RateLimit-Limit"], _left(last)) == ("60", 0)
    assert last["X-Request-ID"] == body["request_id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1", 200),
        ("GET", "/api/v1/", 200),
        ("GET", "nothing/here", 404),
        ("GET", "tasks?page=0", 400),
        ("PUT", "tasks", 405),
        ("GET", "keys", 401),
        ("POST", "tasks", 400),
        ("DELETE", "keys/x", 401),
    ],
)
def test_every_answer_counts_and_says_so(api: Api, method: str, path: str, status: int) -> None:
    answer = api.send(method, path, content_type="application/json")

    assert (answer.status_code, _left(answer)) == (status, 59)


@pytest.mark.parametrize("path", ["/health", "/", "/api/v2", "/admin/"])
def test_what_lies_outside_is_not_counted(api: Api, path: str) -> None:
    answer = api.get(path)

    assert "X-RateLimit-Limit" not in answer
    assert _left(api.get("tasks")) == 59


def test_wrong_keys_count_against_their_address(api: Api) -> None:
    answers = [Api(**WRONG).get("tasks") for _ in range(61)]

    assert [answer.status_code for answer in answers] == [401] * 60 + [429]
    assert [_left(answer) for answer in answers[:2]] == [59, 58]
    assert api.get("tasks").status_code == 429


def test_keys_cannot_be_tried_faster_than_the_limit(keyed: Keyed) -> None:
    """Else the right one would stand out among the 429s."""
    for number in range(60):
        assert Api(**{"X-API-Key": f"wrong {number}"}).get("tasks").status_code == 401
    right = keyed(Scope.READ)

    assert right.get("tasks").status_code == 429


def test_a_neighbour_s_wrong_key_does_not_lock_out_who_was_right_before(keyed: Keyed) -> None:
    good = keyed(Scope.READ)
    good.get("tasks")
    for _ in range(60):
        Api(**WRONG).get("tasks")

    assert good.get("tasks").status_code == 200
    assert good.get("tasks", REMOTE_ADDR="192.0.2.9").status_code == 200


def test_each_key_has_its_own_count(api: Api, keyed: Keyed) -> None:
    first, second = keyed(Scope.READ), keyed(Scope.READ)
    for _ in range(60):
        api.get("tasks")

    assert api.get("tasks").status_code == 429
    assert [_left(first.get("tasks")), _left(first.get("tasks")), _left(second.get("tasks"))] == [59, 58, 59]
    assert _left(first.get("tasks", REMOTE_ADDR="192.0.2.9")) == 57


def _key_with(rate_limits: str) -> Api:
    key, _ = keys.create("a", [Scope.READ], now=timezone.now(), rate_limits=rate_limits)
    return Api(**{"X-API-Key": key})


def test_a_key_may_have_limits_of_its_own() -> None:
    client = _key_with("2/minute")
    answers = [client.get("tasks") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0]["X-RateLimit-Limit"] == "2"


def test_a_key_may_be_without_limits() -> None:
    client = _key_with("off")

    assert {client.get("tasks").status_code for _ in range(61)} == {200}
    assert "X-RateLimit-Limit" not in client.get("tasks")


def test_off_is_off_for_every_key(limited: Any) -> None:
    limited.RATE_LIMITS = "off"
    client = _key_with("1/minute")

    assert [client.get("tasks").status_code for _ in range(3)] == [200] * 3
    assert "X-RateLimit-Limit" not in client.get("tasks")


def test_the_hour_counts_too_and_is_shown_when_it_is_tighter(api: Api, limited: Any) -> None:
    limited.RATE_LIMITS = "60/minute;3/hour"
    answers = [api.get("tasks") for _ in range(4)]

    assert [answer["X-RateLimit-Limit"] for answer in answers] == ["3"] * 4
    assert answers[3].json()["error_details"]["limit"] == "3/hour"
    assert int(answers[3]["Retry-After"]) > 3500


def test_a_burst_limit_is_kept_but_the_minute_is_shown(api: Api, limited: Any) -> None:
    limited.RATE_LIMITS = "5/second;60/minute"
    answers = [api.get("tasks") for _ in range(30)]

    assert _left(answers[0]) == 59
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].json()["error_details"] == {"limit": "5/second", "retry_after_seconds": 1}


# --- who is counted -------------------------------------------------------------------------------------------


def _session(*, staff: bool) -> Client:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_user("ann", password="x", is_staff=staff))
    return client


def test_operators_pages_are_not_counted(api: Api) -> None:
    operator = _session(staff=True)

    assert {operator.get("/api/v1/tasks").status_code for _ in range(61)} == {200}
    assert "X-RateLimit-Limit" not in operator.get("/api/v1/tasks")
    assert _left(api.get("tasks")) == 59


def test_other_users_are_counted_by_user(api: Api) -> None:
    user = _session(staff=False)

    assert _left(user.get("/api/v1/tasks")) == 59
    assert _left(user.get("/api/v1/tasks", REMOTE_ADDR="192.0.2.9")) == 58
    assert _left(api.get("tasks")) == 59


def test_a_session_cookie_of_nobody_is_counted_by_address(api: Api) -> None:
    client = Client(SERVER_NAME="localhost")
    client.cookies["sessionid"] = "x" * 32

    assert [_left(client.get("/api/v1/tasks")), _left(api.get("tasks"))] == [59, 58]


def test_a_key_beside_a_session_is_counted(keyed: Keyed) -> None:
    client = _session(staff=True)

    assert _left(client.get("/api/v1/tasks", headers=keyed(Scope.READ)._headers)) == 59


def test_addresses_are_counted_apart(api: Api) -> None:
    assert _left(api.get("tasks", REMOTE_ADDR="192.0.2.1")) == 59
    assert _left(api.get("tasks", REMOTE_ADDR="192.0.2.2")) == 59
    assert _left(api.get("tasks", REMOTE_ADDR="::ffff:192.0.2.1")) == 58


def test_a_client_s_own_word_about_its_address_does_not_count(api: Api) -> None:
    left = [_left(api.get("tasks", headers={"X-Forwarded-For": f"192.0.2.{number}"})) for number in range(3)]

    assert left == [59, 58, 57]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("6.6.6.6, unknown", "10.0.0.1"),
        ("6.6.6.6, unknown, 10.1.2.3", "10.1.2.3"),
        ("", "10.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        (" , ,", "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_address_it_saw_counts(
    api: Api, limited: Any, forwarded: str, client: str
) -> None:
    limited.TRUSTED_PROXIES = ["10.0.0.0/8"]
    api.get("tasks", REMOTE_ADDR="10.0.0.1", headers={"X-Forwarded-For": forwarded})

    assert _left(api.get("tasks", REMOTE_ADDR=client)) == 58


def test_a_stranger_is_no_trusted_proxy(api: Api, limited: Any) -> None:
    limited.TRUSTED_PROXIES = ["10.0.0.1"]
    api.get("tasks", REMOTE_ADDR="192.0.2.66", headers={"X-Forwarded-For": "192.0.2.1"})

    assert _left(api.get("tasks", REMOTE_ADDR="192.0.2.1")) == 59
    assert _left(api.get("tasks", REMOTE_ADDR="192.0.2.66")) == 58


# --- beside the limits ----------------------------------------------------------------------------------------


def test_pages_of_an_allowed_origin_may_read_the_headers(api: Api, limited: Any) -> None:
    limited.ALLOWED_ORIGINS = ["https://ui.example"]
    for _ in range(61):
        answer = api.get("tasks", headers={"Origin": "https://ui.example"})

    assert (answer.status_code, answer["Access-Control-Allow-Origin"]) == (429, "https://ui.example")
    exposed = answer["Access-Control-Expose-Headers"]
    assert all(f"X-RateLimit-{name}" in exposed for name in ("Limit", "Remaining", "Reset"))


def test_a_key_is_looked_up_once_per_request(keyed: Keyed) -> None:
    client = keyed(Scope.READ)
    client.get("tasks/types")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get("tasks/types")

    assert len([query for query in queries if "clusterconfig_apikey" in query["sql"]]) == 1


def test_fifty_callers_at_once_get_exactly_what_is_allowed() -> None:
    statuses: list[int] = []
    start = threading.Barrier(50)

    def call() -> None:
        client = Client(SERVER_NAME="localhost")
        start.wait(10)
        statuses.extend(client.get("/api/v1").status_code for _ in range(2))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (statuses.count(200), statuses.count(429)) == (60, 40)
