"""The cluster behind nginx, with the file in deploy/nginx: clients and devices see what they always see."""

import re
import signal
import socket
import socketserver
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.e2e.cluster import Process, free_port, until
from tests.production import nginx
from tests.production.nginx import NAME, Nginx, Upstreams
from tests.production.shape import Production, prepared

AGENTS = ("attic", "cellar")
LIMIT = 100_000  # calls a minute: nobody reaches it, and what is left of it tells who was counted


class Site:
    """The cluster, nginx before it, and an administrator's client that goes through it."""

    def __init__(self, cluster: Production, proxy: Nginx, client: httpx.Client) -> None:
        self.cluster, self.proxy, self.client = cluster, proxy, client
        self.agents: dict[str, Process] = {}
        # One for each API server, so one for uvicorn, which alone can wait so long. Collected by the last test.
        self.long_waits: list[Future[httpx.Response]] = []

    def join(self, name: str) -> None:
        """A device that knows nginx's address only, and the authority behind its certificate."""
        through = ("--join", f"localhost:{self.proxy.port}", "--ca", str(self.proxy.ca))
        self.agents[name] = self.cluster.start_agent(name, *through)
        self.cluster.online(name)

    def status(self, name: str) -> Any:
        answer = self.client.get(f"/api/v1/devices/{name}/status")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    variables = {
        "RETIRE_CLUSTER_TRUSTED_PROXIES": "127.0.0.1",
        "RETIRE_CLUSTER_ALLOWED_HOSTS": NAME,
        "RETIRE_CLUSTER_RATE_LIMITS": f"{LIMIT}/minute",
    }
    with prepared(tmp_path_factory.mktemp("nginx"), **variables) as cluster:
        cluster.start_gateways()
        cluster.start_apis()
        upstreams = Upstreams(
            api=(cluster.port, cluster.other_port),
            live=(cluster.other_port,),
            gateways=(cluster.gateway_port, cluster.other_gateway_port),
        )
        key = {"X-API-Key": cluster.key}
        with (
            nginx.running(upstreams) as proxy,
            ThreadPoolExecutor(2) as pool,
            proxy.client(**key) as client,  # entered before its first request: httpx refuses it afterwards
        ):
            found = Site(cluster, proxy, client)
            for name in AGENTS:
                found.join(name)
            found.long_waits = begin_long_waits(found, pool)
            yield found


def begin_long_waits(site: Site, pool: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """Two calls that wait a whole minute for a task nobody can run."""
    body = {"task_type": "echo", "payload": {}, "requirements": {"required_tags": ["nobody-has-this"]}}
    task = site.client.post("/api/v1/tasks", json=body).json()["data"]["task_id"]
    key = {"X-API-Key": site.cluster.key}

    def wait() -> httpx.Response:
        with site.proxy.client(**key) as client:
            return client.get(f"/api/v1/tasks/{task}/status?wait=60")

    return [pool.submit(wait) for _ in range(2)]


# --- people and programs --------------------------------------------------------------------------------------


def test_tasks_are_submitted_and_their_results_read_over_https(site: Site) -> None:
    for number in range(4):  # both servers
        answer = site.client.post("/api/v1/tasks", json={"task_type": "echo", "payload": {"n": number}})
        assert answer.status_code == 201, answer.text
        followed = answer.request.url.join(answer.headers["Location"])
        assert followed.scheme == "https"
        site.client.get(f"{followed}/status?wait=20")
        site.cluster.ended(answer.json()["data"]["task_id"])
        result = site.client.get(f"{followed}/result").json()["data"]
        assert result["result_data"] == {"echo": {"n": number}}


def test_the_dashboard_comes_with_its_files(site: Site) -> None:
    page = site.client.get("/")
    assert page.status_code == 200
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert files
    for file in files:
        assert site.client.get(file).status_code == 200, file


def test_plain_http_is_sent_to_https(site: Site) -> None:
    address = f"http://127.0.0.1:{site.proxy.plain_port}/api/v1/tasks?page=2"
    answer = httpx.post(address, headers={"Host": NAME})
    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{NAME}/api/v1/tasks?page=2")


def test_signing_in_works_and_its_cookies_are_for_https_only(site: Site) -> None:
    add_operator(site)
    with site.proxy.client() as browser:
        for _ in range(2):  # a server each
            form = browser.get("/admin/login/")
            (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text))
            fields = {"username": "olga", "password": "a-long-password", "csrfmiddlewaretoken": token}
            origin = {"Origin": f"https://{NAME}:{site.proxy.port}"}
            answer = browser.post("/admin/login/?next=/admin/", data=fields, headers=origin)
            assert answer.status_code == 302, answer.text
            cookies = [*form.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")]
            assert any(cookie.startswith("sessionid=") for cookie in cookies)
            assert all("; secure" in cookie.lower() for cookie in cookies), cookies
            assert browser.get("/admin/").status_code == 200
            browser.cookies.clear()


def add_operator(site: Site) -> None:
    site.cluster.variables["DJANGO_SUPERUSER_PASSWORD"] = "a-long-password"
    site.cluster.run("retire-cluster-manage", "createsuperuser", "--no-input", "--username=olga", "--email=")


def test_whoever_speaks_plainly_gets_cookies_without_that_mark_whatever_they_say(site: Site) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.3")) as client:
        forged = {"X-Forwarded-Proto": "https"}
        for port in (site.cluster.port, site.cluster.other_port):
            form = client.get(f"http://127.0.0.1:{port}/admin/login/", headers=forged)
            assert "csrftoken=" in form.headers["set-cookie"]
            assert "; secure" not in form.headers["set-cookie"].lower()


def test_a_host_that_is_not_the_cluster_s_is_refused(site: Site) -> None:
    answer = site.client.get("/api/v1/cluster/status", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error_details"]["field"] == "Host"


def test_the_request_s_id_is_kept(site: Site) -> None:
    for number in range(4):
        offered = str(uuid.UUID(int=number))
        answer = site.client.get("/api/v1/devices/nobody", headers={"X-Request-ID": offered})
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == offered


def test_limits_count_the_real_client_whatever_it_claims(site: Site) -> None:
    def left(source: str, **headers: str) -> int:
        with site.proxy.client(source, **headers) as client:
            return int(client.get("/api/v1/cluster/status").headers["X-RateLimit-Remaining"])

    assert [left("127.0.0.11") for _ in range(3)] == [LIMIT - 1, LIMIT - 2, LIMIT - 3]
    assert left("127.0.0.12") == LIMIT - 1, "another client"
    for number, name in enumerate(("X-Forwarded-For", "X-Real-IP", "Forwarded")):
        forged = {name: "127.0.0.13" if name != "Forwarded" else "for=127.0.0.13"}
        assert left("127.0.0.11", **forged) == LIMIT - 4 - number
    assert left("127.0.0.13") == LIMIT - 1, "nobody was taken for it"


def test_a_batch_of_eight_mebibytes_passes_and_a_larger_one_is_refused_in_the_api_s_words(site: Site) -> None:
    def batch(size: int) -> bytes:
        task = (
            '{"task_type":"echo","payload":{"x":"%s"},"requirements":{"required_tags":["nobody-has-this"]}}'
        )
        count = 1000
        room = (size - len('{"tasks":[]}') - (count - 1)) // count - len(task % "")
        text = '{"tasks":[' + ",".join([task % ("x" * room)] * count) + "]}"
        return text.encode().ljust(size)

    def post(body: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return site.client.post("/api/v1/tasks/batch", content=body, headers=headers)

    most = 8 * 1024 * 1024
    answer = post(batch(most))
    assert (answer.status_code, answer.json()["data"]["count"]) == (201, 1000)
    for size in (most + 1, 20 * 1024 * 1024):  # the second one nginx refuses
        refused = post(b" " * size)
        assert (refused.status_code, refused.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_each_server_hears_out_what_it_refuses(site: Site, server: str) -> None:
    """nginx sends first and listens then: a reset meanwhile would make its 502 of the refusal."""
    port = site.cluster.port if server == "gunicorn" else site.cluster.other_port
    size = 9 * 1024 * 1024
    head = (
        f"POST /api/v1/tasks/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(head.encode() + b" " * size)
        assert connection.recv(12) == b"HTTP/1.1 413"


# --- devices --------------------------------------------------------------------------------------------------


def test_devices_work_through_it(site: Site) -> None:
    for name in AGENTS:
        answer = site.client.post(f"/api/v1/devices/{name}/ping")
        assert answer.json()["data"]["ping_successful"], answer.text


def test_a_device_that_falls_silent_is_noticed_and_comes_back(site: Site) -> None:
    answer = site.client.put("/api/v1/config/heartbeat", json={"interval": 1, "timeout": 10, "max_missed": 3})
    assert answer.status_code == 200, answer.text
    agent = site.agents["attic"]
    agent.send_signal(signal.SIGSTOP)  # its socket stays open: nothing but silence tells
    try:
        until(lambda: not site.status("attic")["is_online"], "the silence to be noticed")
    finally:
        agent.send_signal(signal.SIGCONT)
    until(lambda: site.status("attic")["is_online"], "it to be back")


def test_a_page_in_a_browser_cannot_pose_as_a_device(site: Site) -> None:
    with pytest.raises(Exception, match="403"), node(site, source="127.0.0.2", origin="https://evil.example"):
        pass


def test_the_gateway_knows_who_dials_in(site: Site) -> None:
    with node(site, source="127.0.0.21", forged="127.0.0.22") as socket:
        socket.send("nonsense")
        with pytest.raises(Exception, match="1008"):
            while True:
                socket.recv(timeout=10)
    said = "".join(gateway.said() for gateway in site.cluster.gateways)
    assert "refused 127.0.0.21" in said
    assert "refused 127.0.0.22" not in said


@contextmanager
def node(
    site: Site, *, source: str, origin: str | None = None, forged: str = ""
) -> Iterator[ClientConnection]:
    """A WebSocket to the gateway, as anybody may open it."""
    trusted = ssl.create_default_context(cafile=str(site.proxy.ca))
    plain = socket.create_connection(("127.0.0.1", site.proxy.port), source_address=(source, 0))
    # The library leaves the socket of a refused handshake open, so it is made here.
    with trusted.wrap_socket(plain, server_hostname="127.0.0.1") as link:
        page = Origin(origin) if origin else None
        headers = {"X-Forwarded-For": forged} if forged else None
        uri = f"ws://127.0.0.1:{site.proxy.port}/node"  # the link speaks TLS already
        with connect(uri, sock=link, origin=page, additional_headers=headers) as opened:
            yield opened


def test_the_websocket_of_pages_reaches_the_api_as_an_upgrade(site: Site) -> None:
    trusted = ssl.create_default_context(cafile=str(site.proxy.ca))
    with connect(f"wss://localhost:{site.proxy.port}/ws", ssl=trusted, proxy=None) as page:
        assert '"type":"snapshot"' in page.recv(timeout=60)


# --- servers that fail ----------------------------------------------------------------------------------------


class Server(socketserver.ThreadingTCPServer):
    """Reads a request, and answers it or hangs up. Counts them."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, *, answers: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Server)
        lines = iter(self.rfile.readline, b"\r\n")
        head = [line.decode().strip() for line in lines]
        self.server.requests.append(head[0].split()[0])
        if self.server.answers:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@contextmanager
def servers(*answers: bool) -> Iterator[list[Server]]:
    found = [Server(answers=one) for one in answers]
    try:
        yield found
    finally:
        for server in found:
            server.shutdown()
            server.server_close()


def received(servers: list[Server]) -> list[str]:
    return [request for server in servers for request in server.requests]


def test_a_post_that_was_sent_is_never_sent_again() -> None:
    with servers(False, False) as both, nginx.running(Upstreams([one.port for one in both])) as proxy:
        with proxy.client() as client:
            answer = client.post("/api/v1/tasks", json={})
            assert (answer.status_code, answer.json()["error_code"]) == (502, "SERVICE_UNAVAILABLE")
            assert uuid.UUID(answer.json()["request_id"])
            assert received(both) == ["POST"]
            client.get("/api/v1/tasks")
        assert received(both).count("GET") == 2, "a read may be tried again"


def test_a_server_that_refuses_connections_costs_nobody_anything() -> None:
    with servers(True) as (alive,), nginx.running(Upstreams([free_port(), alive.port])) as proxy:
        with proxy.client() as client:
            answers = [client.post("/api/v1/tasks", json={}).status_code for _ in range(20)]
        assert answers == [200] * 20
        assert alive.requests == ["POST"] * 20


def test_only_websockets_are_upgraded() -> None:
    with servers(True) as (alive,), nginx.running(Upstreams([alive.port])) as proxy, proxy.client() as client:
        answer = client.get("/", headers={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"})
    assert answer.status_code == 200


def test_a_wait_of_a_minute_is_not_cut(site: Site) -> None:
    """It has waited since the first test: uvicorn waits the whole minute, gunicorn answers earlier."""
    for waiting in site.long_waits:
        answer = waiting.result(90)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["status"] == "queued"


def test_devices_come_back_after_nginx_died(site: Site) -> None:
    site.proxy.kill()
    until(lambda: site.cluster.get("devices/summary")["online_devices"] == 0, "both gateways to see them go")
    site.proxy.start()
    for name in AGENTS:
        site.cluster.online(name)
    task = site.client.post("/api/v1/tasks", json={"task_type": "echo", "payload": {}}).json()["data"]
    assert site.cluster.ended(task["task_id"])["status"] == "success"
