"""Joining by one line, as a server prints it and as its page shows it, on a machine with only Python."""

import hashlib
import random
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from retire_cluster import __version__, zipapp
from retire_cluster.gateway.certificate import ensure
from retire_cluster.protocol.messages import PROTOCOL_VERSION
from retire_cluster.zipapp.line import MISMATCH, join_line
from tests.e2e import cluster as processes
from tests.e2e.cluster import Cluster, Process, clean_environment, free_port, running, token_in, until
from tests.e2e.newcomer import Newcomer, arguments_of_all, bare_python_knows
from tests.e2e.relaying import relay

HANDLERS = """
from retire_cluster.agent import handler

@handler("shout")
def shout(payload, ctx):
    ctx.progress(50, "breathing in")
    if "text" not in payload:
        raise ValueError("nothing to shout")
    return payload["text"].upper()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Off loopback, so that its gateway speaks TLS."""
    with running(
        tmp_path_factory.mktemp("line") / "cluster", "--cluster-bind", "0.0.0.0", "--no-local-node"
    ) as found:
        found.api.headers["X-API-Key"] = (found.data_dir / "api-key").read_text().strip()
        until(lambda: "Join  " in found.server.said(), "the greeting")
        yield found


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    found = Newcomer(tmp_path / "newcomer")
    try:
        yield found
    finally:
        found.stop()


def printed_line(cluster: Cluster) -> str:
    return processes.join_line(cluster.server.said())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run_on(cluster: Cluster, tag: str, task_type: str, payload: dict[str, Any]) -> Any:
    """How such a task ended on the device with the tag."""
    return cluster.ended(cluster.submit(task_type, payload, requirements={"required_tags": [tag]}))


# --- a working device -----------------------------------------------------------------------------------------


def test_the_printed_line_makes_a_machine_with_only_python_a_device_that_runs_everything(
    cluster: Cluster, newcomer: Newcomer
) -> None:
    assert not any(bare_python_knows(name, newcomer) for name in ("retire_cluster", "websockets", "pip"))
    (newcomer.home / "shouting.py").write_text(HANDLERS)
    line = printed_line(cluster)
    newcomer.paste(f"{line} --device-id bare --tags bare --handlers shouting.py --allow-private-http")
    cluster.online("bare")
    health = f"http://127.0.0.1:{cluster.port}/health"
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("echo", {"a": 1}, {"echo": {"a": 1}}),
        ("sleep", {"duration": 0.01}, {"slept_for": 0.01}),
        ("python_eval", {"expression": "6 * 7"}, {"result": 42, "expression": "6 * 7"}),
        ("shout", {"text": "ho"}, "HO"),
    ]
    for task_type, payload, expected in cases:
        ended = run_on(cluster, "bare", task_type, payload)
        assert (ended["status"], ended["result"]) == ("success", expected), ended
    shell = run_on(cluster, "bare", "command", {"command": "echo from $HOME; echo more >&2"})
    assert (shell["result"]["stdout"], shell["result"]["stderr"]) == (f"from {newcomer.home}\n", "more\n")
    asked = run_on(cluster, "bare", "http_request", {"url": health, "allow_private": True})
    assert asked["result"]["status_code"] == 200, asked
    told = run_on(cluster, "bare", "system_info", {})
    assert told["result"]["capabilities"]["platform"] == "linux"
    failed = run_on(cluster, "bare", "shout", {})["attempts"][0]
    assert failed["error_message"] == "ValueError: nothing to shout"
    assert "shouting.py" in failed["error_traceback"]
    assert "handle.py" not in failed["error_traceback"]


def test_what_it_keeps_starts_again_without_a_token(cluster: Cluster, newcomer: Newcomer) -> None:
    newcomer.paste(f"{printed_line(cluster)} --device-id again")
    cluster.online("again")
    (file,) = newcomer.kept()
    assert file.read_bytes() == zipapp.archive().content
    newcomer.stop()
    until(lambda: cluster.get("devices/again")["status"] == "offline", "the device to leave")

    told = re.search(r"it starts again with: (.*)", newcomer.said())
    assert told, newcomer.said()
    assert "rcj1_" not in told[1]
    newcomer.paste(told[1])
    cluster.online("again")


def test_a_task_on_it_is_cancelled_with_all_its_processes(cluster: Cluster, newcomer: Newcomer) -> None:
    newcomer.paste(f"{printed_line(cluster)} --device-id brisk --tags brisk")
    cluster.online("brisk")
    # Found by their arguments among all of this machine's, where another run of this test may be under way.
    mine = f"{random.randrange(10**9):09}"
    commands = {f"sleep 612.{mine}", f"sleep 613.{mine}"}
    command = {"command": " & ".join(commands)}
    task = cluster.submit("command", command, requirements={"required_tags": ["brisk"]})
    until(lambda: commands <= set(arguments_of_all()), "the task's commands")
    assert cluster.api.post(f"/api/v1/tasks/{task}/cancel").status_code == 200
    assert cluster.ended(task)["status"] == "cancelled"
    assert not commands & set(arguments_of_all())


def test_no_other_user_of_the_machine_reads_the_token(cluster: Cluster, newcomer: Newcomer) -> None:
    line = printed_line(cluster)
    newcomer.paste(f"{line} --device-id discreet")
    cluster.online("discreet")
    shown = "\n".join(arguments_of_all())
    assert f"{newcomer.home}/.retire-cluster/agent/" in shown
    assert token_in(line) not in shown
    assert token_in(line) not in newcomer.said()


@contextmanager
def signed_in(cluster: Cluster) -> Iterator[httpx.Client]:
    """A browser after the link that the first start prints."""
    said = re.search(r"^Sign in     (http://\S+)", cluster.server.said(), re.MULTILINE)
    assert said
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", timeout=60) as browser:
        page = browser.get(said[1])
        answer = press(browser, page, "/sign-in/once/", secret=said[1].partition("=")[2])
        assert answer.status_code == 302, answer.text
        yield browser


def press(browser: httpx.Client, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert found, page.text
    origin = {"Origin": str(browser.base_url).rstrip("/")}
    return browser.post(path, data={"csrfmiddlewaretoken": found[1], **fields}, headers=origin)


def code_of(page: httpx.Response, name: str) -> str:
    """The text of a page's code element."""
    found = re.search(rf'<code id="{name}">(.*?)</code>', page.text, re.DOTALL)
    assert found, page.text
    return unescape(found[1])


def test_the_line_of_the_page_makes_a_device_too(cluster: Cluster, newcomer: Newcomer) -> None:
    with signed_in(cluster) as browser:
        form = browser.get("/add-device/")
        page = press(
            browser,
            form,
            "/add-device/token/",
            name="phones",
            max_uses="1",
            expires_in_days="1",
            tags="attic",
        )
        line = code_of(page, "join")
        assert line.startswith(" "), "shells keep it out of their history"
        assert "retire-cluster-worker --join" in code_of(page, "installed")
        newcomer.paste(f"{line} --device-id phone")
        cluster.online("phone")
        assert cluster.get("devices/phone")["tags"] == ["attic"]
        ended = run_on(cluster, "attic", "echo", {"hello": "phone"})
        assert ended["assigned_device_id"] == "phone"


def test_the_line_of_a_gateway_on_loopback_works_on_this_machine(tmp_path: Path, newcomer: Newcomer) -> None:
    with running(tmp_path / "cluster", "--no-local-node") as cluster:
        until(lambda: "Join  " in cluster.server.said(), "the greeting")
        newcomer.paste(f"{printed_line(cluster)} --device-id near")
        cluster.online("near")
        assert cluster.ended(cluster.submit("echo"))["assigned_device_id"] == "near"


# --- where the agent is served --------------------------------------------------------------------------------


def test_every_door_serves_the_same_agent(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    gunicorn = Process(
        tmp_path / "gunicorn.log",
        "gunicorn",
        *("-b", f"127.0.0.1:{port}", "retire_cluster.api.wsgi:app"),
        environment={**clean_environment(), "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir)},
    )
    pin = (cluster.data_dir / "join-token").read_text().strip().rpartition("_")[2]
    try:
        with relay(tmp_path / "relay", cluster.gateway_port, "--cluster-pin", pin) as relayed:
            doors = [
                f"http://127.0.0.1:{cluster.port}",
                f"https://127.0.0.1:{cluster.gateway_port}",
                f"http://127.0.0.1:{relayed.port}",
                f"http://127.0.0.1:{port}",
            ]
            with httpx.Client(verify=False, timeout=30) as client:
                until(lambda: client.get(f"{doors[-1]}/agent.pyz").status_code == 200, "gunicorn")
                for door in doors:
                    answer = client.get(f"{door}/agent.pyz")
                    assert _sha256(answer.content) == zipapp.archive().sha256, door
                    assert answer.headers["etag"] == f'"{zipapp.archive().sha256}"'
                    known = {"If-None-Match": answer.headers["etag"]}
                    assert client.get(f"{door}/agent.pyz", headers=known).status_code == 304, door
                    head = client.head(f"{door}/agent.pyz")
                    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    finally:
        gunicorn.kill()


# --- what goes wrong is one sentence --------------------------------------------------------------------------


@contextmanager
def false_gateway(directory: Path, reply: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """HOST:PORT of somebody with a certificate, who answers as told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def log_message(self, *_: Any) -> None:
            return

    shown = ensure(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(
    content: bytes, *, declared: int | None = None, status: int = 200
) -> Callable[[BaseHTTPRequestHandler], None]:
    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content) if declared is None else declared))
        request.end_headers()
        request.wfile.write(content)

    return reply


def tampered() -> bytes:
    """The agent, but it does something before all else."""
    files = zipapp.files()
    for name in ("join.py", "__main__.py"):
        files[name] = b"open('owned', 'w')\n" + files[name]
    return zipapp.pack(files)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(send(tampered()), id="tampered"),
        pytest.param(
            send(zipapp.archive().content[:200_000], declared=len(zipapp.archive().content)), id="cut short"
        ),
        pytest.param(send(b"<h1>Not Found</h1>", status=404), id="no gateway"),
        pytest.param(send(zipapp.archive().content + b"x"), id="longer"),
    ],
)
def test_what_is_not_the_agent_of_the_line_never_runs(
    tmp_path: Path, newcomer: Newcomer, reply: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    with false_gateway(tmp_path, reply) as address:
        newcomer.paste(join_line(address, tls=True, sha256=zipapp.archive().sha256, token="t"))
        assert newcomer.wait() == 1
    assert newcomer.said() == f"{MISMATCH}\n"
    assert list(newcomer.home.iterdir()) == []


def test_a_hash_that_fits_runs_what_it_stands_for(tmp_path: Path, newcomer: Newcomer) -> None:
    """The test above would pass if nothing ever ran."""
    with false_gateway(tmp_path, send(tampered())) as address:
        newcomer.paste(join_line(address, tls=True, sha256=_sha256(tampered())) + " --version")
        assert newcomer.wait() == 0
    assert (newcomer.home / "owned").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_gateway_that_is_not_there_is_one_sentence(newcomer: Newcomer, host: str) -> None:
    address = f"{host}:{free_port()}"
    newcomer.paste(join_line(address, tls=True, sha256="0" * 64, token="t"))
    assert newcomer.wait() == 1
    assert newcomer.said().startswith(f"cannot fetch the agent from {address}: ")
    assert len(newcomer.said().splitlines()) == 1


def test_a_gateway_that_hangs_up_is_one_sentence(newcomer: Newcomer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        hanging = threading.Thread(target=lambda: server.accept()[0].close())
        hanging.start()
        newcomer.paste(join_line(f"127.0.0.1:{server.getsockname()[1]}", tls=False, sha256="0" * 64))
        assert newcomer.wait() == 1
        hanging.join()
    assert newcomer.said().startswith("cannot fetch the agent from 127.0.0.1:")
    assert len(newcomer.said().splitlines()) == 1


def test_a_home_that_takes_no_file_is_said_with_the_way_out(cluster: Cluster, newcomer: Newcomer) -> None:
    no_home = newcomer.home / "file"
    no_home.touch()
    newcomer.paste(printed_line(cluster), home=no_home)
    assert newcomer.wait() == 1
    assert newcomer.said() == (
        f"cannot keep the agent in {no_home}/.retire-cluster: Not a directory; add --data-dir DIR to the line\n"
    )
    newcomer.paste(
        f"{printed_line(cluster)} --device-id placed --data-dir {newcomer.home / 'there'}", home=no_home
    )
    cluster.online("placed")
    assert (newcomer.home / "there" / "agent" / "agent.json").exists()


# --- agents of other versions ---------------------------------------------------------------------------------


def agent_of(version: str, protocol: int) -> bytes:
    """This agent as if it were of another version."""
    files = zipapp.files()
    for name, old, new in [
        ("__init__", f'__version__ = "{__version__}"', f'__version__ = "{version}"'),
        ("protocol/messages", f"PROTOCOL_VERSION = {PROTOCOL_VERSION}", f"PROTOCOL_VERSION = {protocol}"),
    ]:
        path = f"retire_cluster/{name}.py"
        assert old.encode() in files[path]
        files[path] = files[path].replace(old.encode(), new.encode())
    return zipapp.pack(files)


def start_agent(
    cluster: Cluster, newcomer: Newcomer, archive: bytes, *options: str, token: bool = True
) -> None:
    """Run such an agent, as one that was fetched from a server of its version."""
    file = newcomer.home / f"{_sha256(archive)[:16]}.pyz"
    file.write_bytes(archive)
    known = (cluster.data_dir / "join-token").read_text().strip() if token else ""
    given = f"RETIRE_CLUSTER_JOIN_TOKEN={known} " if known else ""
    newcomer.paste(f"{given}python3 {file} --join 127.0.0.1:{cluster.gateway_port} {' '.join(options)}")


@pytest.mark.parametrize("version", ["0.0.9", "99.0.0"])
def test_an_agent_of_another_version_works_and_its_page_has_the_line_that_updates_it(
    cluster: Cluster, newcomer: Newcomer, version: str
) -> None:
    name = f"agent-{version}"
    start_agent(cluster, newcomer, agent_of(version, PROTOCOL_VERSION), "--device-id", name, "--tags", name)
    cluster.online(name)
    assert run_on(cluster, name, "python_eval", {"expression": "1"})["status"] == "success"
    page = cluster.api.get(f"/devices/{name}/")
    assert f"Its agent is {version}, this server&#x27;s is {__version__}" in page.text.replace("'", "&#x27;")
    newcomer.stop()
    until(lambda: cluster.get(f"devices/{name}")["status"] == "offline", "the old agent to leave")

    line = code_of(page, "update")
    assert "rcj1_" not in line
    newcomer.paste(line)
    cluster.online(name)
    assert cluster.get(f"devices/{name}")["agent_version"] == __version__
    assert 'id="update"' not in cluster.api.get(f"/devices/{name}/").text


@pytest.mark.parametrize(
    ("protocol", "side"), [(PROTOCOL_VERSION - 1, "agent"), (PROTOCOL_VERSION + 1, "server")]
)
def test_an_agent_that_the_gateway_does_not_understand_is_told_the_way_out_and_so_is_the_operator(
    cluster: Cluster, newcomer: Newcomer, protocol: int, side: str
) -> None:
    name = f"protocol-{protocol}"
    newcomer.paste(f"{printed_line(cluster)} --device-id {name}")
    cluster.online(name)
    newcomer.stop()
    until(lambda: cluster.get(f"devices/{name}")["status"] == "offline", "the device to leave")

    start_agent(cluster, newcomer, agent_of("0.0.9", protocol), token=False)
    assert newcomer.wait() == 6
    assert "run the server's join line on this device" in newcomer.said()
    reason = f"the agent speaks protocol {protocol}, the server {PROTOCOL_VERSION}; update the {side}"
    assert reason in newcomer.said()
    assert cluster.get(f"devices/{name}")["status_reason"] == reason
    assert reason in cluster.api.get(f"/devices/{name}/").text
    assert f"{name} was refused: {reason}" in cluster.api.get("/activity/").text
    assert f"refused {name} at 127.0.0.1: {reason}" in cluster.server.said()


def test_a_stranger_that_the_gateway_does_not_understand_is_in_its_log(
    cluster: Cluster, newcomer: Newcomer
) -> None:
    start_agent(cluster, newcomer, agent_of("0.0.9", PROTOCOL_VERSION - 1), "--device-id", "ancient")
    assert newcomer.wait() == 6
    assert "refused ancient at 127.0.0.1: the agent speaks protocol" in cluster.server.said()
    assert cluster.api.get("/api/v1/devices/ancient").status_code == 404
