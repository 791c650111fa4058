"""`http_request` in real processes, against a server on loopback that the device's owner consented to."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.execution.children import shim
from retire_cluster.protocol.messages import Result
from retire_cluster.protocol.states import Outcome
from tests.integration.agent.fake_gateway import until
from tests.integration.agent.workplace import Workplace, at, outcome


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = int(self.path.rpartition("/")[2] or 200)
        body = b"x" * 1_500_000 if self.path.startswith("/much/") else b"caf\xe9"
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=latin-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen = {"type": self.headers["Content-Type"], "own": self.headers["X-Own"], "body": body.decode()}
        text = json.dumps(seen).encode()
        self.send_response(201)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def ask(directory: Path, url: str, *, consent: bool = True, **payload: Any) -> Result:
    return outcome(
        directory, "http_request", {"url": url, "allow_private": True, **payload}, allow_private_http=consent
    )


def told(result: Result) -> Any:
    return json.loads(result.result_json or "null")


def test_an_answer_is_the_result(tmp_path: Path, url: str) -> None:
    result = told(ask(tmp_path, f"{url}/200"))
    assert result["headers"]["Content-Length"] == "4"
    assert {**result, "headers": None} == {
        "status_code": 200,
        "headers": None,
        "content": "café",
        "url": f"{url}/200",
        "truncated": False,
    }


@pytest.mark.parametrize("code", [404, 500])
def test_an_error_code_is_a_success_with_that_code(tmp_path: Path, url: str, code: int) -> None:
    result = ask(tmp_path, f"{url}/{code}")
    assert result.outcome is Outcome.SUCCESS
    assert told(result)["status_code"] == code


def test_data_and_headers_are_sent(tmp_path: Path, url: str) -> None:
    sent = {"a": [1]}
    answer = told(ask(tmp_path, url, method="POST", data=sent, headers={"X-Own": "7"}))
    seen = json.loads(answer["content"])
    assert (seen["type"], seen["own"], json.loads(seen["body"])) == ("application/json", "7", sent)
    answer = told(ask(tmp_path, url, method="POST", data="a=1", headers={"content-type": "text/x"}))
    assert json.loads(answer["content"]) == {"type": "text/x", "own": None, "body": "a=1"}


def test_much_content_is_cut(tmp_path: Path, url: str) -> None:
    result = told(ask(tmp_path, f"{url}/much/200"))
    assert result["truncated"] is True
    assert len(result["content"]) == 1024 * 1024


def test_without_the_owners_consent_nothing_private_is_asked(tmp_path: Path, url: str) -> None:
    result = ask(tmp_path, url, consent=False)
    assert result.outcome is Outcome.FAILED
    assert "--allow-private-http" in (result.error_message or "")
    asked_not = ask(tmp_path, url, allow_private=False)
    assert "only a request with allow_private" in (asked_not.error_message or "")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"url": "ftp://a.test/"}, "payload.url: must begin with http"),
        ({"url": "http://a b/"}, "payload.url: must be ASCII without blanks"),
        ({"url": "http://u:p@a.test/"}, "payload.url: must not contain a user name"),
        ({"url": "http:///x"}, "payload.url: must name a host"),
        ({"url": "http://a.test:99999/"}, "payload.url: is no URL"),
        ({"url": 1}, "payload.url: must be a URL"),
        ({"url": "http://a.test/", "method": "BREW"}, "payload.method: must be one of GET"),
        ({"url": "http://a.test/", "headers": {"A\r\nB": "1"}}, "payload.headers: 'A\\r\\nB' cannot be"),
        ({"url": "http://a.test/", "headers": {"A": "1\r\nB: 2"}}, "payload.headers: A: the value must not"),
        ({"url": "http://a.test/", "headers": {"Content-Length": "1"}}, "payload.headers: Content-Length"),
        ({"url": "http://a.test/", "data": 7}, "payload.data: must be a string"),
        ({"url": "http://a.test/", "allow_private": "yes"}, "payload.allow_private: must be true or false"),
        ({"url": "http://nowhere.invalid/"}, "cannot find the host 'nowhere.invalid'"),
    ],
)
def test_what_cannot_be_asked_is_told_in_words(tmp_path: Path, payload: Any, words: str) -> None:
    result = outcome(tmp_path, "http_request", payload)
    assert result.outcome is Outcome.FAILED
    assert words in (result.error_message or "")
    assert result.error_traceback is None


def test_nobody_listening_is_told_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = ask(tmp_path, f"http://127.0.0.1:{port}/")
    assert f"cannot connect to 127.0.0.1 port {port}: Connection refused" in (result.error_message or "")


def test_a_silent_server_ends_as_timeout(tmp_path: Path, silent: str) -> None:
    result = ask(tmp_path, silent, timeout=0.5)
    assert result.outcome is Outcome.TIMEOUT
    assert "0.5 s" in (result.error_message or "")


def test_a_cancel_ends_it(tmp_path: Path, silent: str) -> None:
    async def scenario(place: Workplace) -> None:
        attempt = place.start("http_request", {"url": silent, "allow_private": True})
        await until(lambda: len(shim.marked(attempt)) == 2, "it asks")
        place.executor.kill(attempt, "user")
        assert (await place.result(attempt)).outcome is Outcome.CANCELLED

    at(tmp_path, scenario, allow_private_http=True)
