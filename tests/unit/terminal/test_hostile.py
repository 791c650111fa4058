"""A cluster whose every word is meant to steer the person's terminal, and terminals and pipes that are odd."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import httpx
import pytest

from retire_cluster.sdk import Client, ConnectionFailed, models
from retire_cluster.sdk.decoding import Model
from retire_cluster.sdk.errors import SdkError, UpgradeRequired
from retire_cluster.terminal import following, main, server, status, tasks
from retire_cluster.terminal.exits import Exit
from tests.e2e.cluster import clean_environment
from tests.unit.sdk.network import CREATED, TLS, StillClock, failure, success, task_row
from tests.unit.terminal.test_following import TASK, chunk

EVIL = "\x1b]0;mine\x07\x1b[2J\x9b31m\x85\u202e\u2028\x00\ud800x\x1b[8m"
LEFT = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u2028\u202e\ud800]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def evil(hint: Any) -> Any:
    """What a hint allows, with all texts mean."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return evil(next(item for item in arguments if item is not types.NoneType))
    if origin is tuple:
        return [evil(arguments[0])]
    if origin is not None:
        return {EVIL: evil(arguments[1])}
    if hint is Any:
        return {EVIL: [EVIL]}
    if issubclass(hint, Model):
        return {name: evil(kind) for name, kind in get_type_hints(hint).items() if name != "raw"}
    plain: dict[Any, Any] = {str: EVIL, bool: True, int: 7, float: 7.5, datetime: CREATED}
    return plain[hint]


ANSWERS: list[tuple[str, Any]] = [
    (r"/tasks", [evil(models.Task)]),
    (r"/tasks/types", evil(models.TaskTypes)),
    (r"/tasks/statistics", evil(models.Statistics)),
    (r"/tasks/[^/]+", {**evil(models.TaskDetail), "status": "failed"}),
    (r"/tasks/[^/]+/(status|cancel|retry)", {**evil(models.Task), "status": "failed"}),
    (r"/tasks/[^/]+/result", {**evil(models.Result), "status": "success"}),
    (r"/tasks/[^/]+/logs", evil(models.TaskLogs)),
    (r"/tasks/[^/]+/explain", evil(models.Explanation)),
    (r"/devices", [evil(models.Device)]),
    (r"/devices/[^/]+", {**evil(models.DeviceDetail), **evil(models.DeviceRemoval)}),
    (r"/devices/[^/]+/status", evil(models.DeviceStatus)),
    (r"/devices/[^/]+/ping", {**evil(models.DevicePing), "response_time_ms": None}),
    (r"/devices/[^/]+/(cordon|uncordon|drain)", evil(models.DeviceService)),
    (r"/config", {EVIL: {EVIL: EVIL}}),
    (r"/keys", [evil(models.Key)]),
    (r"/join-tokens", [evil(models.JoinToken)]),
    (r"/cluster/status", evil(models.ClusterStatus)),
]
MADE = {
    "/tasks": {"task": evil(models.Task)},
    "/keys": evil(models.NewKey),
    "/join-tokens": evil(models.NewJoinToken),
}


def mean(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/health":
        return httpx.Response(200, content=json.dumps(evil(models.Health)).encode())
    path = request.url.path.removeprefix("/api/v1")
    if request.method == "POST" and path in MADE:
        return answered(MADE[path])
    for pattern, data in ANSWERS:
        if re.fullmatch(pattern, path):
            return answered(data)
    return failure(404, "NOT_FOUND", EVIL.replace("\ud800", ""))


def answered(data: Any) -> httpx.Response:
    """JSON with everything escaped, so that also what is no UTF-8 arrives."""
    return httpx.Response(200, content=json.dumps({"status": "success", "data": data}).encode())


class Screen(io.TextIOWrapper):
    """A standard output that is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        return cast("io.BytesIO", self.buffer).getvalue().decode(self.encoding)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Where both streams of a command go, and a cluster that is mean."""
    use(monkeypatch, mean)
    return Screen()


def shown_on(screen: Screen, words: list[str], program: Callable[[list[str]], int] = main.main) -> int:
    with redirect_stdout(screen), redirect_stderr(screen):
        return program(words)


def use(monkeypatch: pytest.MonkeyPatch, answering: Callable[[httpx.Request], httpx.Response]) -> None:
    network: dict[str, Any] = {"transport": httpx.MockTransport(answering), "clock": StillClock()}

    def made(address: str, key: str | None, *, ca: str | None, **more: Any) -> Client:
        return Client(address, key, verify=TLS, **network, **more)

    monkeypatch.setattr(server, "Client", made)


COMMANDS = [
    "tasks", "tasks t1", "result t1", "result t1 --wait", "logs t1", "cancel t1", "retry t1", "explain t1", "types",
    "submit echo", "run --detach x", "devices", "devices d1", "ping d1", "cordon d1", "drain d1", "remove d1 --yes",
    "config", "config nothing", "keys", "keys create k --scopes read", "tokens", "tokens create t",
]  # fmt: skip


@pytest.mark.parametrize("way", ["", " --json"])
@pytest.mark.parametrize("words", COMMANDS)
def test_nothing_that_a_cluster_says_steers_the_terminal(words: str, way: str, screen: Screen) -> None:
    shown_on(screen, [*words.split(), *way.split()])
    said = screen.text()
    assert said
    # What a task prints may turn the direction of its own lines: right-to-left text does.
    own = "\u202e\u2028" if words == "logs t1" and not way else ""
    assert set(LEFT.findall(COLOUR.sub("", said))) <= set(own)


@pytest.mark.parametrize("words", ["", "--json", "--device d1", "--devices", "--tasks"])
def test_nothing_in_the_status_does(words: str, screen: Screen) -> None:
    shown_on(screen, words.split(), status.main)
    assert screen.text()
    assert LEFT.findall(COLOUR.sub("", screen.text())) == []


def test_json_is_what_the_cluster_said_though_it_is_escaped(screen: Screen) -> None:
    shown_on(screen, ["devices", "--json"])
    assert json.loads(screen.text()) == [evil(models.Device)]


def test_hidden_text_ends_with_the_output(screen: Screen) -> None:
    with redirect_stdout(screen), redirect_stderr(screen), following.Output() as output:
        output.pass_on(chunk(text="\x1b[8mhidden"))
        output.pass_on(chunk(text="more", left_out=7))
    said = screen.text()
    assert said == "\x1b[8mhidden\x1b[0m[7 characters of output are missing here]\nmore"
    with redirect_stdout(screen), redirect_stderr(screen), following.Output() as output:
        output.pass_on(chunk(text="\x1b[8mhidden"))
    assert screen.text().endswith("\x1b[8mhidden\x1b[0m")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_shows_all_it_can(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(encoding)
    use(
        monkeypatch,
        lambda request: answered({**evil(models.Result), "result_data": "Ω°", "status": "success"}),
    )
    assert shown_on(screen, ["result", "t1"]) == Exit.OK
    assert json.loads(screen.text()) == "Ω°"
    assert shown_on(screen, ["result", "t1", "--json"]) == Exit.OK


@pytest.mark.parametrize("columns", ["1", "7", "20"])
@pytest.mark.parametrize("words", ["tasks", "devices d1", "explain t1"])
def test_a_very_narrow_terminal_is_no_trouble(
    columns: str, words: str, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert shown_on(screen, words.split()) == Exit.OK


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (0, 0),
        (7, 7),
        (255, 255),
        (256, 1),
        (0x1_0000_0000, 1),
        (3_221_225_477, 5),
        (-9, 137),
        (-(10**30), 255),
    ],
)
def test_a_failure_there_is_none_of_success_here(theirs: int, ours: int) -> None:
    assert following._as_ours(theirs) == ours


class Cancelled:
    """A client that keeps what was cancelled."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def cancel(self, task: Any) -> None:
        self.tasks.append(task.task_id)
        raise ConnectionFailed("no way")


def test_a_command_whose_reader_is_gone_is_cancelled_as_it_would_end_here() -> None:
    client = Cancelled()
    with pytest.raises(BrokenPipeError), following._cancelled_when_we_end(cast("Client", client), TASK):
        raise BrokenPipeError
    assert client.tasks == ["t1"]


def test_of_a_file_that_fails_half_way_the_submitted_tasks_are_told(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tasks"
    file.write_text('{"task_type": "echo"}\n' * 1500)
    answers = [
        success({"tasks": [task_row(f"t{number}") for number in range(1000)]}),
        failure(400, "VALIDATION_ERROR"),
    ]
    use(monkeypatch, lambda request: answers.pop(0))
    assert shown_on(screen, ["submit", "--file", str(file)]) == Exit.FAILED
    lines = screen.text().splitlines()
    assert lines[:1000] == [f"t{number}" for number in range(1000)]
    assert lines[1000] == "the first 1000 of 1500 tasks were submitted, and go on"


def test_a_line_of_a_file_ends_where_a_line_of_json_does(tmp_path: Path) -> None:
    file = tmp_path / "tasks"
    file.write_bytes('\ufeff{"task_type": "a\u2028\u0085b"}\r\n\r\n{"task_type": "c"}'.encode())
    assert tasks._lines(str(file)) == [{"task_type": "a\u2028\u0085b"}, {"task_type": "c"}]


@pytest.mark.parametrize("payload", ['{"a": NaN}', '{"a": ' + "[" * 100_000, "@~nobody-of-this-name/x"])
def test_a_payload_of_no_json_is_wrong_use(payload: str, screen: Screen) -> None:
    assert shown_on(screen, ["submit", "echo", payload]) == Exit.USAGE
    assert screen.text().count("\n") == 1


@pytest.mark.parametrize(
    "words", [["cancel", ".."], ["submit", "echo", '{"a": "\\ud800"}'], ["run", "\udcff"]]
)
def test_what_cannot_be_sent_is_one_line(words: list[str], screen: Screen) -> None:
    assert shown_on(screen, words) != Exit.OK
    assert screen.text().count("\n") == 1


@pytest.mark.parametrize("seconds", ["nan", "-1", "x"])
def test_no_number_of_seconds_is_wrong_use(seconds: str, screen: Screen) -> None:
    with pytest.raises(SystemExit) as left:
        shown_on(screen, ["result", "t1", "--wait", "--wait-s", seconds])
    assert left.value.code == Exit.USAGE


def test_an_outage_is_said_to_the_person(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[httpx.Response] = [
        failure(404, "RESULT_NOT_READY"),
        *[httpx.Response(502)] * 9,
        answered({**evil(models.Result), "status": "success"}),
    ]
    use(monkeypatch, lambda request: answers.pop(0))
    assert shown_on(screen, ["result", "t1", "--wait", "--wait-s", "600"]) == Exit.OK
    away, back = screen.text().splitlines()[:2]
    assert away.startswith("retire-cluster: http://127.0.0.1:8081/api/v1/tasks/t1/result")
    assert "answers 502; asking again for up to" in away
    assert back == "retire-cluster: http://127.0.0.1:8081 answers again"


def test_ctrl_c_while_a_task_is_submitted_says_that_it_may_be(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    use(monkeypatch, answering)
    for words in ("submit echo", "run x"):
        assert shown_on(screen, words.split()) == Exit.INTERRUPTED
    assert (
        screen.text().splitlines()
        == ["whether the task was submitted is not known: `retire-cluster tasks` tells"] * 2
    )


# --- watching -----------------------------------------------------------------------------------------------------


class Enough(BaseException):
    """The test saw what it wanted."""


@dataclass
class Watched:
    """A client whose pictures come, and whose events do not."""

    client: Client
    refused: SdkError
    looks: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def events(self) -> Any:
        raise self.refused

    def health(self) -> models.Health:
        self.looks.append("look")
        if len(self.looks) == 2:
            raise ConnectionFailed(EVIL)
        if len(self.looks) == 3:
            raise Enough
        return self.client.health()


@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_watching_goes_on_without_events_and_on_every_terminal(
    kind: str, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.reconfigure(errors="backslashreplace")
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(status, "LOOK_ANYWAY_S", 0.0)
    monkeypatch.setattr(status, "PACE_S", 0.0)
    client = Client(
        "http://cluster.test", transport=httpx.MockTransport(mean), clock=StillClock(), verify=TLS
    )

    watched = Watched(client, UpgradeRequired("no WebSocket", status=426))
    arguments = server.complete(status.build_parser().parse_args(["--watch"]))
    with pytest.raises(Enough), redirect_stdout(screen), redirect_stderr(screen):
        status._watch(cast("Client", watched), arguments)
    said = screen.text()
    assert "not live" in said
    assert "DEVICE" in said
    assert "check the address" in said
    own = re.compile(r"\x1b\[(\?25[lh]|\?1049[lh]|H|\d*[ABCDGJK]|2K)")  # rich's, to draw over what was there
    assert LEFT.findall(own.sub("", COLOUR.sub("", said))) == [] or kind == "xterm"
    assert "\x1b]0;mine" not in said
    assert ("\x1b" in COLOUR.sub("", said)) is (kind == "xterm")


# --- odd pipes ----------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """The same cluster for commands that are processes of their own."""

    def do_GET(self) -> None:
        answer = mean(httpx.Request("GET", f"http://h{self.path}")).content
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        (">/dev/full", 1, "retire-cluster: cannot write: No space left on device\n"),
        ("| true", 0, ""),
    ],
)
def test_odd_pipes_are_no_trouble(redirection: str, code: int, words: str) -> None:
    program = "import sys; from retire_cluster.terminal.main import main; sys.exit(main())"
    with served() as address:
        line = f'"$0" -c "$1" devices --api {address} {redirection}'
        done = subprocess.run(
            ["sh", "-c", line, sys.executable, program],
            env={**os.environ, **clean_environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (code, words)
