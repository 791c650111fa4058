"""What is tried again, what is not, and what comes out of answers that are none."""

import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from retire_cluster.sdk import (
    ApiError,
    Client,
    ConnectionFailed,
    RetireClusterAPI,
    SdkError,
    Timeout,
    UnexpectedAnswer,
)
from retire_cluster.sdk.errors import (
    IdempotencyMismatch,
    PayloadTooLarge,
    RateLimited,
    ServerFailed,
    Unavailable,
)
from retire_cluster.sdk.pausing import FIRST_PAUSE_S
from tests.unit.sdk.network import Server, StillClock, client, failure, success, task_row

REFUSED = httpx.ConnectError("refused")
BROKEN = httpx.ReadError("the connection was reset")
BUSY = failure(503, "SERVICE_UNAVAILABLE", headers={"Retry-After": "5"})
LIMITED = failure(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "12"})
SUBMITTED = success({"task_id": "t1", "task": task_row()}, 201)
SERVICE = {
    "device_id": "d",
    "status": "online",
    "status_reason": "",
    "cordoned": True,
    "draining": False,
    "drain_deadline": None,
    "running_tasks": 0,
}
Use = Callable[[Client], Any]


def read(api: Client) -> Any:
    return api.status("t1")


def submit(api: Client) -> Any:
    return api.submit("echo")


def submit_batch(api: Client) -> Any:
    return api.submit_many([{"task_type": "echo", "payload": {}}])


def cancel(api: Client) -> Any:
    return api.cancel("t1")


def cordon(api: Client) -> Any:
    return api.cordon("d")


ANSWERS: dict[Use, httpx.Response] = {
    read: success(task_row()),
    submit: SUBMITTED,
    submit_batch: success({"tasks": [task_row()], "count": 1}, 201),
    cancel: success(task_row()),
    cordon: success(SERVICE),
}
HARMLESS = (read, submit, submit_batch, cordon)


@pytest.mark.parametrize("use", ANSWERS)
@pytest.mark.parametrize("trouble", [REFUSED, httpx.ConnectTimeout("slow"), BUSY, LIMITED])
def test_what_cannot_have_been_done_is_tried_again(use: Use, trouble: httpx.Response | Exception) -> None:
    server = Server(trouble, trouble, ANSWERS[use])
    use(client(server))
    assert len(server.requests) == 3


@pytest.mark.parametrize("use", HARMLESS)
@pytest.mark.parametrize(
    "trouble", [BROKEN, httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone"), httpx.Response(502)]
)
def test_what_does_no_harm_twice_is_tried_again(use: Use, trouble: httpx.Response | Exception) -> None:
    server = Server(trouble, ANSWERS[use])
    use(client(server))
    assert len(server.requests) == 2


@pytest.mark.parametrize("trouble", [BROKEN, httpx.ReadTimeout("slow"), httpx.Response(504)])
@pytest.mark.parametrize(
    "use",
    [
        cancel,
        lambda api: api.retry("t1"),
        lambda api: api.drain("d"),
        lambda api: api.remove("d"),
        lambda api: api.create_key("n", ["read"]),
        lambda api: api.create_join_token("n"),
        lambda api: api.revoke_key("k", own=True),
        lambda api: api.reset_config(),
        lambda api: api.change_config("server", {}, etag='"server.1"'),
    ],
)
def test_what_may_have_been_done_and_counts_twice_is_not(
    use: Use, trouble: httpx.Response | Exception
) -> None:
    server = Server(trouble)
    with pytest.raises(SdkError):
        use(client(server))
    assert len(server.requests) == 1


def test_a_submission_is_sent_again_under_the_same_key_and_another_one_under_another() -> None:
    server = Server(BROKEN, BUSY, SUBMITTED)
    api = client(server)
    api.submit("echo")
    api.submit("echo")
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_a_key_of_ones_own_is_used() -> None:
    server = Server(failure(409, "IDEMPOTENCY_MISMATCH"))
    with pytest.raises(IdempotencyMismatch):
        client(server).submit("echo", idempotency_key="mine")
    assert server.requests[0].headers["Idempotency-Key"] == "mine"


def test_the_server_says_how_long_to_wait() -> None:
    clock = StillClock()
    client(Server(LIMITED, BUSY, SUBMITTED), clock).submit("echo")
    first, second = clock.pauses
    assert 12 <= first <= 12 + FIRST_PAUSE_S
    assert 5 <= second <= 5 + FIRST_PAUSE_S


def test_a_limit_of_an_hour_is_an_error_at_once() -> None:
    clock = StillClock()
    with pytest.raises(RateLimited) as caught:
        client(Server(failure(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "3000"})), clock).status(
            "t1"
        )
    assert caught.value.retry_after == 3000
    assert clock.pauses == []


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_tries_end(retries: int) -> None:
    server = Server(REFUSED)
    with pytest.raises(
        ConnectionFailed, match=r"cluster\.test:8081 cannot be reached: refused; check the address"
    ):
        client(server, retries=retries).status("t1")
    assert len(server.requests) == retries + 1


def test_no_answer_in_time_is_a_timeout() -> None:
    with pytest.raises(Timeout, match="within 3 s"):
        client(Server(httpx.ReadTimeout("")), retries=0, timeout=3).status("t1")


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_other_refusals_are_not_tried_again(status: int) -> None:
    server = Server(failure(status, "INTERNAL_ERROR"))
    with pytest.raises(ServerFailed):
        client(server).status("t1")
    assert len(server.requests) == 1


def test_an_error_has_all_that_the_server_said() -> None:
    server = Server(
        failure(413, "PAYLOAD_TOO_LARGE", "payload: too much", field="payload", reason="too much")
    )
    with pytest.raises(PayloadTooLarge) as caught:
        client(server).submit("echo")
    error = caught.value
    assert (error.status, error.field, error.reason, error.request_id) == (413, "payload", "too much", "r-1")
    assert str(error) == f"payload: too much; {PayloadTooLarge.advice}"


def test_a_code_of_a_newer_server_is_an_error_as_well() -> None:
    with pytest.raises(ApiError, match="update retire-cluster") as caught:
        client(Server(failure(418, "TEAPOT", "short and stout"))).status("t1")
    assert caught.value.details["error_code"] == "TEAPOT"


@pytest.mark.parametrize(("status", "kind"), [(413, PayloadTooLarge), (502, Unavailable), (429, RateLimited)])
def test_a_page_of_a_proxy_is_understood_by_its_status(status: int, kind: type[ApiError]) -> None:
    with pytest.raises(kind):
        client(Server(httpx.Response(status, html="<h1>no</h1>")), retries=0).status("t1")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>It works!</h1>"),
        httpx.Response(404, html="<h1>Not here</h1>"),
        httpx.Response(301, headers={"Location": "https://cluster.test"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"status": "success"}),
        success({"task_id": "t1"}),
        success([]),
        success(None),
        success({**task_row(), "created_at": "yesterday"}),
    ],
)
def test_what_is_no_answer_of_this_api_is_named(answer: httpx.Response) -> None:
    with pytest.raises(UnexpectedAnswer, match="check that the address"):
        client(Server(answer)).status("t1")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:8081", "http://h:8081/api/v1"),
        ("http://h:8081/", "http://h:8081/api/v1"),
        ("http://h:8081/api/v1/", "http://h:8081/api/v1"),
        ("https://h/cluster/api/v1", "https://h/cluster/api/v1"),
    ],
)
def test_the_address_may_be_the_server_s_or_the_api_s(given: str, used: str) -> None:
    server = Server(success(task_row()))
    api = RetireClusterAPI(given, transport=httpx.MockTransport(server))
    api.status("t1")
    assert str(server.requests[0].url) == f"{used}/tasks/t1/status"
    assert api.base_url == given


@pytest.mark.parametrize("address", ["", "localhost:8081", "ftp://h/api/v1", "/api/v1", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="give an address as http://HOST:8081"):
        Client(address)


def test_a_key_with_a_line_break_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="line break"):
        Client("http://h:8081", "rck_1\n")


def test_a_bad_authority_is_refused(tmp_path: Any) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match="give a PEM file"):
            Client("https://h", ca=path)
    with pytest.raises(ValueError, match="either ca= or verify="):
        Client("https://h", ca=empty, verify=False)


def test_a_certificate_nobody_vouches_for_is_not_tried_again() -> None:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    server = Server(error)
    with pytest.raises(ConnectionFailed, match="pass the authority's certificate as ca="):
        client(server).status("t1")
    assert len(server.requests) == 1


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    server = Server(success(task_row()))
    client(server).status("../keys?x=1#y")
    assert server.requests[0].url.raw_path == b"/api/v1/tasks/..%2Fkeys%3Fx%3D1%23y/status"


def test_the_specification_s_methods_hand_back_every_answer_at_once() -> None:
    for answer in (SUBMITTED, BUSY, LIMITED, failure(400, "VALIDATION_ERROR"), failure(401, "UNAUTHORIZED")):
        server = Server(answer)
        api = client(server)
        assert api.submit_task("echo", {}, priority="high") == answer.json()
        assert api.get_cluster_status() == answer.json()
        assert len(server.requests) == 2


def test_the_specification_s_methods_send_what_its_snippet_sends() -> None:
    server = Server(SUBMITTED)
    api = client(server, api_key="k")
    api.submit_task("echo", {"message": "Hello"}, priority="high", metadata={"a": 1})
    [request] = server.requests
    assert (request.method, str(request.url)) == ("POST", "http://cluster.test:8081/api/v1/tasks")
    assert request.headers["X-API-Key"] == "k"
    assert request.headers["Content-Type"] == "application/json"
    assert httpx.Response(200, content=request.content).json() == {
        "task_type": "echo",
        "payload": {"message": "Hello"},
        "priority": "high",
        "metadata": {"a": 1},
    }


def test_a_key_set_later_is_sent() -> None:
    server = Server(SUBMITTED)
    with client(server) as api:
        api.headers["X-API-Key"] = "later"
        api.get_cluster_status()
    assert server.requests[0].headers["X-API-Key"] == "later"
