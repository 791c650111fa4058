"""Requests that no client library would send, over a socket: refused in words, and the server goes on."""

import json
from uuid import UUID

import httpx
import pytest
from django.test import RequestFactory

from retire_cluster.api.wsgi import app
from tasks.models import Task
from tests.integration.rest.serving import raw

pytestmark = pytest.mark.django_db(transaction=True)

ECHO = b'{"task_type":"echo","payload":{}}'


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """The bytes of a request that asks for the connection to be closed."""
    return b"\r\n".join([line, b"Host: localhost", b"Connection: close", *headers, b"", body])


def get(target: bytes, *headers: bytes) -> bytes:
    return request(b"GET " + target + b" HTTP/1.1", *headers)


def post(body: bytes, *headers: bytes, length: bytes | None = None) -> bytes:
    size = b"%d" % len(body) if length is None else length
    return request(
        b"POST /api/v1/tasks HTTP/1.1",
        *(headers or (b"Content-Type: application/json",)),
        b"Content-Length: " + size,
        body=body,
    )


def answer(port: int, sent: bytes) -> tuple[int, dict[str, object]]:
    """Status and body of an answer in the envelope."""
    head, _, body = raw(port, sent).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("target", "status", "field"),
    [
        (b"/api/v1/tasks?status=%ff", 400, "status"),
        (b"/api/v1/tasks?task_type=%ff", 400, "task_type"),
        (b"/api/v1/tasks?task_type=%ed%a0%80", 400, "task_type"),
        (b"/api/v1/tasks?page=%c2%b2", 400, "page"),
        (b"/api/v1/tasks?page=1&page=1", 400, "page"),
        (b"/api/v1/tasks?cursor=" + b"x" * 30_000, 400, "cursor"),
        (b"/api/v1/tasks?" + b"a=1&" * 2000, 400, None),
        (b"/api/v1/tasks/%ff%00", 404, None),
        (b"/api/v1/devices/%00", 404, None),
        (b"/api/v1/devices/%ed%a0%80", 404, None),
        (b"/api/v1/devices/" + b"x" * 30_000, 404, None),
        (b"/api/v1/keys/%ff", 401, None),
        (b"/api/v1/%2e%2e/%2e%2e/etc/passwd", 404, None),
        (b"/api/v1/tasks;x=1", 404, None),
        (b"/api/v1//tasks", 404, None),
    ],
)
def test_a_target_of_odd_bytes(port: int, target: bytes, status: int, field: str | None) -> None:
    found, body = answer(port, get(target))

    assert (found, body["status"]) == (status, "error")
    details = body["error_details"]
    assert isinstance(details, dict)
    assert field is None or (details["field"] == field and details["reason"])


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Type: application/json; x*=bogus''abc", 415),
        (b"Content-Type: application/json; x*0*=b\xffgus''a", 415),
        (b"Content-Type: \xff\xfe", 415),
        (b"Content-Type: " + b"x" * 30_000, 415),
        (b"Content-Type: multipart/form-data; boundary=\xff", 415),
        (b"Content-Type:", 415),
        (b"Accept: application/json; x*=bogus''abc", 406),
        (b"Accept: " + b"x/" * 10_000, 406),
        (b"Origin: http://[", 403),
        (b"Origin: \xff", 403),
        (b"Idempotency-Key: \xff", 400),
        (b"Idempotency-Key: " + b"x" * 256, 400),
        (b"Authorization: Bearer \xff", 401),
        (b"X-API-Key:", 401),
    ],
)
def test_a_header_of_odd_bytes(port: int, header: bytes, status: int) -> None:
    given = [header] if header.startswith(b"Content-Type") else [b"Content-Type: application/json", header]
    found, body = answer(port, post(ECHO, *given))

    assert (found, body["status"]) == (status, "error")
    assert not Task.objects.exists()


@pytest.mark.parametrize("charset", [b"hex", b"idna", b"undefined", b"utf-16", b"latin-1", b"\xff", b'"'])
def test_a_body_is_utf_8_whatever_charset_is_named(port: int, charset: bytes) -> None:
    content_type = b"Content-Type: application/json; charset=" + charset

    assert answer(port, post(ECHO, content_type))[0] == 201
    assert answer(port, post(b'{"task_type":"\xe9"}', content_type))[0] == 400


@pytest.mark.parametrize("parameter", ["charset=hex", "x*=bogus''abc", "charset=a\0b"])
def test_a_wsgi_server_may_hand_over_a_type_that_django_cannot_read(parameter: str) -> None:
    environ = RequestFactory(SERVER_NAME="localhost").get("/api/v1/tasks?page=x").environ
    statuses: list[str] = []
    body = app(
        {**environ, "CONTENT_TYPE": f"application/json; {parameter}"},
        lambda status, headers: statuses.append(status),
    )

    assert statuses == ["400 Bad Request"]
    assert json.loads(b"".join(body))["error_details"]["field"] == "page"


@pytest.mark.parametrize("offered", [b"", b"1", b"\xff" * 36, b"x" * 30_000, b"a\tb", b"%0d%0aX: 1"])
def test_an_id_that_is_none_is_replaced(port: int, offered: bytes) -> None:
    found, body = answer(port, get(b"/api/v1/tasks?page=x", b"X-Request-ID: " + offered))

    assert found == 400
    assert str(UUID(str(body["request_id"]))) == body["request_id"]


@pytest.mark.parametrize(
    "value", [b'"\\000aaaaaaaa"', b'"\\377aaaaaaaa"', b"\xff" * 32, b"x" * 30_000, b"=;=;="]
)
def test_a_cookie_that_names_no_session_is_nobody_s(port: int, value: bytes) -> None:
    cookie = b"Cookie: sessionid=" + value + b"; csrftoken=" + value

    assert answer(port, get(b"/api/v1/tasks", cookie))[0] == 200
    assert answer(port, get(b"/api/v1/config", cookie))[0] == 401


@pytest.mark.parametrize("method", [b"FOO", b"PROPFIND", b"TRACE", b"get", b"M-SEARCH"])
def test_a_method_that_is_none(port: int, method: bytes) -> None:
    """The server in front knows some methods only; whatever reaches the API is refused by it."""
    status = int(raw(port, request(method + b" /api/v1/tasks/types HTTP/1.1")).split()[1])

    assert status in (400, 401, 405)


@pytest.mark.parametrize(
    "sent",
    [
        post(ECHO, length=b"abc"),
        post(ECHO, length=b"-1"),
        post(ECHO, length=b"9" * 5000),
        post(ECHO, length=b"5, 6"),
        post(ECHO, b"Content-Type: application/json", b"Content-Length: 3"),
        post(ECHO, b"Content-Type: application/json", b"Transfer-Encoding: nonsense"),
        request(b"POST /api/v1/tasks HTTP/1.1", b"Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
        request(b"GET /api/v1/tasks HTTP/9.9"),
        get(b"/api/v1/tasks?status=\xff"),
        get(b"/api/v1/tasks/\xed\xa0\x80"),
        get("/api/v1/devices/\u00fc".encode()),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # somebody speaks TLS
        b"\x00" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_by_the_server_in_front(
    port: int, client: httpx.Client, sent: bytes
) -> None:
    assert b" 400 " in raw(port, sent).split(b"\r\n")[0]
    assert client.get("/health").status_code == 200
    assert not Task.objects.exists()


def test_a_body_shorter_than_it_says_is_not_taken_for_one(port: int, client: httpx.Client) -> None:
    found, body = answer(port, post(ECHO, length=b"%d" % (len(ECHO) - 1)))

    assert (found, body["error_code"]) == (400, "VALIDATION_ERROR")
    assert client.get("/health").status_code == 200
    assert not Task.objects.exists()
