"""`retire-cluster-api` with its gateway elsewhere: it passes everything on, and gives nobody more than they had."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from retire_cluster.agent.address import Address
from retire_cluster.listeners import bind
from retire_cluster.relay.launch import Plan, serve
from retire_cluster.relay.peer import Peer
from retire_cluster.startup import StartupError
from tests.e2e.cluster import Cluster, Process, clean_environment, free_port, until
from tests.e2e.relaying import Recorder, Relay, recorder, refusal, relay, say, server_tls
from tests.e2e.test_certificates import Pki
from tests.e2e.test_real_client import make_all_calls

PASSWORD = "correct-horse"


# --- with a real cluster behind it ----------------------------------------------------------------------------


class Pair:
    """A cluster whose gateway speaks TLS, and a relay that knows its certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        pki = Pki(directory)
        self.cluster = Cluster(directory / "cluster")
        self.cluster.api = httpx.Client(
            base_url=f"https://127.0.0.1:{self.cluster.port}", timeout=70, verify=False
        )
        self.cluster.start(*pki.flags)
        until(lambda: self.cluster.get("devices?status=online"), "the local node")
        self.key = (self.cluster.data_dir / "api-key").read_text().strip()
        token = (self.cluster.data_dir / "join-token").read_text().strip()
        self.relay = Relay(
            directory / "relay", self.cluster.gateway_port, "--cluster-pin", token.split("_")[-1]
        )

    def stop(self) -> None:
        self.relay.stop()
        self.cluster.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    found = Pair(tmp_path_factory.mktemp("relay") / "pair")
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def api(pair: Pair) -> httpx.Client:
    """Of the relay."""
    return pair.relay.api


def test_an_existing_client_finds_all_it_reads_through_a_relay(pair: Pair) -> None:
    headers = {"Content-Type": "application/json", "X-API-Key": pair.key}
    with httpx.Client(base_url=pair.relay.api.base_url, headers=headers, timeout=30) as client:
        make_all_calls(client)


def test_a_relay_says_what_it_is_and_leaves_nothing_on_disk(pair: Pair) -> None:
    until(lambda: "relay is up" in pair.relay.process.said(), "the greeting")
    said = pair.relay.process.said()
    assert f"Relay to    the gateway at 127.0.0.1:{pair.cluster.gateway_port}, known by its pinned" in said
    assert "answers, healthy" in said
    assert list(pair.relay.home.iterdir()) == []
    health = pair.relay.health()
    gateway = health["services"]["gateway"]
    assert (gateway["host"], gateway["port"]) == ("127.0.0.1", pair.cluster.gateway_port)
    assert health["status"] == "healthy"


def test_being_near_the_relay_is_no_privilege(pair: Pair, api: httpx.Client) -> None:
    body = {"task_type": "python_eval", "payload": {"expression": "1 + 1"}}
    direct = pair.cluster.api.post("/api/v1/tasks", json=body)
    assert direct.status_code == 201, "straight from this machine, it is one"
    for headers in ({}, {"Host": "localhost"}, {"Connection": "X-Forwarded-For, X-Forwarded-Proto, Via"}):
        assert api.post("/api/v1/tasks", json=body, headers=headers).status_code == 401


def test_a_waiting_call_is_answered_when_the_task_ends(api: httpx.Client) -> None:
    answer = api.post("/api/v1/tasks", json={"task_type": "sleep", "payload": {"duration": 0.5}})
    task_id = answer.json()["data"]["task_id"]
    waited = api.get(f"/api/v1/tasks/{task_id}/status?wait=30")
    assert waited.json()["data"]["status"] == "success", waited.text


def test_a_batch_of_nearly_eight_mib_passes_and_one_beyond_is_refused(pair: Pair, api: httpx.Client) -> None:
    # No device here is of that role: the tasks stay where they are.
    task = {
        "task_type": "echo",
        "payload": {"text": "x" * 250_000},
        "requirements": {"required_role": "storage"},
    }
    headers = {"X-API-Key": pair.key, "Content-Type": "application/json"}

    def batch(tasks: int) -> httpx.Response:
        body = json.dumps({"tasks": [task] * tasks})
        return api.post("/api/v1/tasks/batch", content=body, headers=headers)

    accepted = batch(33)
    assert accepted.status_code == 201, accepted.text[:300]
    assert accepted.json()["data"]["count"] == 33
    refused = batch(40)
    assert (refused.status_code, refused.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_arrives_whole(api: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"task_type": "echo",'
        yield b' "payload": {"n": 1}}'

    answer = api.post("/api/v1/tasks", content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/schema", "/api/docs", "/static/retire_cluster/style.css"]
)
def test_pages_documents_and_files_are_relayed(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 200
    assert answer.content


def test_the_request_id_is_the_same_on_both_sides(pair: Pair, api: httpx.Client) -> None:
    mine = "0b0e9a40-9d0c-4a3c-8f3f-6d2f3a1f0001"
    answer = api.get("/api/v1/devices", headers={"X-Request-ID": mine})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == mine
    for process in (pair.relay.process, pair.cluster.processes[0]):
        until(lambda process=process: mine in process.said(), "the id in the log")  # type: ignore[misc]


def test_agents_find_no_gateway_at_a_relay(pair: Pair, api: httpx.Client) -> None:
    for path in ("/node", "/node/health", "/node/", "/%6eode/proof?device_id=a"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND"), path
        assert f"127.0.0.1:{pair.cluster.gateway_port}" in answer.json()["message"]
    assert refusal(pair.relay, "/node").status_code == 404


def sign_in(pair: Pair, origin: str) -> httpx.Response:
    with httpx.Client(base_url=pair.relay.api.base_url, timeout=60) as browser:
        page = browser.get("/admin/login/").text
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert field, page
        form = {"csrfmiddlewaretoken": field[1], "username": "root", "password": PASSWORD}
        # The cluster has a certificate, so its cookies are for TLS: here the test carries them itself.
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
        return browser.post("/admin/login/", data=form, headers={"Origin": origin, "Cookie": cookies})


@pytest.fixture(scope="module")
def operator(pair: Pair) -> None:
    environment = {
        **clean_environment(),
        "RETIRE_CLUSTER_DATA_DIR": str(pair.cluster.data_dir),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    arguments = ("createsuperuser", "--noinput", "--username", "root", "--email", "root@example.org")
    log = pair.cluster.directory / "operator.log"
    made = Process(log, "retire-cluster-manage", *arguments, environment=environment)
    assert made.wait() == 0, made.said()


@pytest.mark.usefixtures("operator")
def test_an_operator_signs_in_through_a_relay_and_a_foreign_page_does_not(pair: Pair) -> None:
    assert sign_in(pair, f"http://127.0.0.1:{pair.relay.port}").status_code == 302
    for origin in (
        f"https://127.0.0.1:{pair.relay.port}",
        "http://127.0.0.1:1",
        "https://evil.example",
        "null",
    ):
        assert sign_in(pair, origin).status_code == 403, origin


def test_a_host_name_of_somebody_else_is_refused_through_a_relay_too(api: httpx.Client) -> None:
    for path in ("/health", "/api/v1/devices", "/"):
        assert api.get(path, headers={"Host": "evil.example"}).status_code == 400, path


# --- a gateway that comes and goes ----------------------------------------------------------------------------


def test_a_relay_outlives_its_gateway_which_counts_clients_as_it_trusts_the_relay(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        with relay(tmp_path / "relay", cluster.gateway_port) as found:
            found.until_reason(f"nothing listens on 127.0.0.1:{cluster.gateway_port}")
            until(lambda: "does not serve: nothing listens" in found.process.said(), "the greeting to say so")
            assert_unavailable(found.api.get("/api/v1/devices"))
            assert_unavailable(found.api.post("/api/v1/tasks", json={"task_type": "echo", "payload": {}}))

            gateway = cluster.start_gateway()
            until(lambda: found.health()["status"] == "healthy", "the relay to find the gateway")
            # All clients of a relay that nobody trusts are one.
            assert [remaining(found.port, f"127.0.0.{n}") for n in (5, 6, 5)] == [59, 58, 57]

            gateway.kill()
            assert_unavailable(found.api.get("/api/v1/devices"))
            found.until_reason("nothing listens")

            cluster.variables = {"RETIRE_CLUSTER_TRUSTED_PROXIES": "127.0.0.1"}
            cluster.start_gateway()
            until(lambda: found.health()["status"] == "healthy", "the gateway to be found again")
            assert [remaining(found.port, f"127.0.0.{n}") for n in (5, 6, 5)] == [59, 59, 58]
            assert found.process.interrupt() == 0
            assert "Traceback" not in found.process.said()
    finally:
        cluster.stop()


def remaining(port: int, source: str) -> int:
    """Calls left to a client with this address, which claims to have another."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=60) as client:
        answer = client.get(
            f"http://127.0.0.1:{port}/api/v1/devices", headers={"X-Forwarded-For": "10.9.8.7"}
        )
        return int(answer.headers["X-RateLimit-Remaining"])


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    body = answer.json()
    assert set(body) == {"status", "message", "error_code", "error_details", "timestamp", "request_id"}
    assert (body["status"], body["error_code"]) == ("error", "SERVICE_UNAVAILABLE")
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert int(answer.headers["Retry-After"]) > 0


def test_a_gateway_elsewhere_needs_no_flag_to_be_relayed_to(tmp_path: Path) -> None:
    """192.0.2.0/24 is nobody's: documentation only."""
    port = free_port()
    where = ("--port", str(port), "--cluster-host", "192.0.2.1")
    environment = {**clean_environment(), "HOME": str(tmp_path)}
    process = Process(tmp_path / "said", "retire-cluster-api", *where, environment=environment)
    try:
        base = f"http://127.0.0.1:{port}"
        health = until(lambda: httpx.get(f"{base}/health", timeout=30), "the relay to serve")
        assert health.status_code == 503
        gateway = health.json()["services"]["gateway"]
        assert (gateway["host"], gateway["port"], gateway["status"]) == ("192.0.2.1", 8080, "unhealthy")
        assert "192.0.2.1:8080" in gateway["reason"]
        assert_unavailable(httpx.get(f"{base}/api/v1/devices", timeout=30))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["said"]
    finally:
        process.kill()


# --- a gateway that misbehaves --------------------------------------------------------------------------------


@dataclass
class Wire:
    """A relay, and a recorder where its gateway should be."""

    gateway: Recorder
    relay: Relay


@pytest.fixture(scope="module")
def kept_wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with recorder() as gateway, relay(tmp_path_factory.mktemp("wire") / "relay", gateway.port) as found:
        yield Wire(gateway, found)


@pytest.fixture
def wire(kept_wire: Wire) -> Wire:
    """As if new."""
    gateway = kept_wire.gateway
    gateway.received, gateway.left = [], 0
    gateway.answer, gateway.hangs_up = Recorder.answer, Recorder.hangs_up
    return kept_wire


def test_a_request_that_may_have_taken_effect_is_not_sent_twice(wire: Wire) -> None:
    wire.gateway.answer = b""
    answer = wire.relay.api.post("/api/v1/tasks", json={"task_type": "echo", "payload": {}})
    assert_unavailable(answer)
    assert "Idempotency-Key" in answer.json()["message"]
    assert wire.gateway.heard().count(b"POST /api/v1/tasks") == 1


@pytest.mark.parametrize(
    "rubbish", [b"SSH-2.0-nothing\r\n", b"HTTP/1.1 2OO OK\r\n\r\n", b"\x15\x03\x01\x00\x02\x02"]
)
def test_what_is_no_http_is_no_answer(wire: Wire, rubbish: bytes) -> None:
    wire.gateway.answer = rubbish
    assert_unavailable(wire.relay.api.get("/api/v1/devices"))


def test_an_answer_that_breaks_off_ends_the_connection(wire: Wire) -> None:
    wire.gateway.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    raw = say(wire.relay.port, b"GET /api/v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"half"
    assert "Traceback" not in wire.relay.process.said()


def test_an_answer_begins_before_it_is_complete(wire: Wire) -> None:
    wire.gateway.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    wire.gateway.hangs_up = False
    with wire.relay.api.stream("GET", "/metrics") as answer:
        assert next(answer.iter_bytes()) == b"first"


def test_a_client_that_leaves_is_not_waited_for(wire: Wire) -> None:
    wire.gateway.answer, wire.gateway.hangs_up = b"", False
    with socket.create_connection(("127.0.0.1", wire.relay.port)) as client:
        client.sendall(b"GET /api/v1/tasks/x/status?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: wire.gateway.received, "the call to arrive")
    until(lambda: wire.gateway.left, "the relay to leave the gateway")


def test_a_stopping_relay_answers_who_waits(tmp_path: Path) -> None:
    with recorder() as gateway, relay(tmp_path / "relay", gateway.port) as found:
        gateway.answer, gateway.hangs_up = b"", False
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(found.api.get, "/api/v1/tasks/x/status?wait=60")
            until(lambda: gateway.received, "the call to arrive")
            assert found.process.interrupt() == 0
            answer = call.result()
        assert_unavailable(answer)
        assert answer.json()["message"] == "this relay is stopping"


# --- whom the relay trusts ------------------------------------------------------------------------------------


def test_another_certificate_gets_not_a_byte(tmp_path: Path) -> None:
    tls, shown = server_tls(tmp_path)
    wrong = ("--cluster-pin", "0" * 64)
    with recorder(tls) as gateway, relay(tmp_path / "relay", gateway.port, *wrong) as found:
        answer = found.api.get("/api/v1/devices", headers={"X-API-Key": "rck_secret"})
        assert_unavailable(answer)
        assert f"restart with --cluster-pin {shown}" in answer.json()["message"]
        assert shown in found.until_reason("is not the pinned one")
        assert b"is not the pinned one" in refusal(found, "/ws", **{"X-API-Key": "rck_secret"}).body
        assert (gateway.probes, gateway.heard()) == (0, b"")


def test_a_certificate_nobody_vouched_for_ends_the_start_with_the_flag_that_accepts_it(
    tmp_path: Path,
) -> None:
    tls, shown = server_tls(tmp_path)
    with recorder(tls) as gateway:
        # By flags a peer on this machine may be plain: only one elsewhere has to vouch for itself.
        peer = Peer(Address("127.0.0.1", gateway.port), tls=True)
        listener = bind("127.0.0.1", 0, flag="--port")
        with listener.socket, pytest.raises(StartupError, match=f"start with --cluster-pin {shown}$"):
            asyncio.run(serve(Plan(listener, peer, (), (), hello=False)))
        assert (gateway.probes, gateway.heard()) == (0, b"")


# --- where a request comes from -------------------------------------------------------------------------------


def test_forged_origins_and_smuggled_headers_end_at_the_relay(wire: Wire) -> None:
    say(
        wire.relay.port,
        b"GET /api/v1/devices?a=b%20c HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n"
        b"X-Real-IP: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nVia: 1.1 nobody\r\nX-Forwarded-Host: evil\r\n"
        b"Connection: close, X-Api-Key, X-Forwarded-For\r\nX-Api-Key: rck_k\r\nTE: trailers\r\n"
        b"Proxy-Authorization: Basic x\r\nUpgrade: h2c\r\nKeep-Alive: 5\r\nAccept: a/b\r\n\r\n",
    )
    assert wire.gateway.received[-1].startswith(b"GET /api/v1/devices?a=b%20c HTTP/1.1\r\n")
    sent = wire.gateway.headers()
    assert re.fullmatch(rb"[0-9a-f-]{36}", sent.pop(b"x-request-id"))
    assert sent == {
        b"host": b"localhost",
        b"accept": b"a/b",
        b"x-forwarded-for": b"127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"via": b"1.1 retire-cluster-relay",
    }


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 60\r\n",
        b"Content-Length: 5\r\nContent-Length: 60\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
def test_a_request_cannot_hide_in_the_body_of_another(wire: Wire, framing: bytes) -> None:
    hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + framing
    answer = say(wire.relay.port, head + b"\r\n" + hidden)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"hidden" not in wire.gateway.heard()


def test_a_target_crosses_as_it_was_written(wire: Wire) -> None:
    written = b"//api/../%2e%2E/v1;a=b/%C3%BC?q=%20+&x=|{}<>"
    say(wire.relay.port, b"GET " + written + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert wire.gateway.received[-1].startswith(b"GET " + written + b" HTTP/1.1\r\n")


def test_only_methods_of_the_api_are_relayed(wire: Wire) -> None:
    answer = wire.relay.api.request("TRACE", "/api/v1/devices")
    assert (answer.status_code, answer.json()["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wire.gateway.heard() == b""


# --- WebSockets that do not come about ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno", 403),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302),
        (b"", 503),
    ],
)
def test_a_refused_websocket_is_refused_with_the_gateway_s_own_words(
    wire: Wire, answer: bytes, status: int
) -> None:
    wire.gateway.answer = answer
    assert refusal(wire.relay, "/ws").status_code == status
    assert len(wire.gateway.received) == 1


@pytest.mark.parametrize(("host", "path"), [(b"user@localhost", b"/ws"), (b"localhost", b"/ws?a#b")])
def test_a_malformed_address_opens_no_websocket(wire: Wire, host: bytes, path: bytes) -> None:
    raw = (
        b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert say(wire.relay.port, raw).startswith(b"HTTP/1.1 400")
    assert wire.gateway.heard() == b""
