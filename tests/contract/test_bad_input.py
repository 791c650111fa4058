"""Every kind of bad input at every route: a 4xx in the envelope that names field and reason, and nothing is stored.

DOORS says what each route takes. It is held against the routes there are and against the OpenAPI document, so
neither a route nor a parameter can be forgotten here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import yaml
from django.apps import apps

from clusterconfig import tokens
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey
from retire_cluster.api.errors import BY_STATUS
from tests.contract.conftest import Api
from tests.contract.test_census import METHODS, TABLE, census
from tests.contract.test_envelope import ERROR_KEYS, TIMESTAMP
from tests.contract.test_openapi import CHECKED_IN
from tests.factories import START, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

JSON = "application/json"
KIB = 1024
HUGE = 10**30
AN_ID = str(UUID(int=1))

# --- what is wrong with a value, by what it should be ---------------------------------------------------------

WORDS_OF_OTHER_TYPES: list[Any] = [True, 0, 1.5, [], {}]
JUNK: dict[str, list[Any]] = {
    "text": [*WORDS_OF_OTHER_TYPES, "", "x" * 501],
    "word": [*WORDS_OF_OTHER_TYPES, "", "nonsense", "x" * 5000, " low"],
    "whole": [True, False, 1.5, 1e300, "1", "", [], {}, -1, HUGE, -(10**400)],
    "number": [True, "1", "", [], {}, -1, 1e300, 10**400],
    "flag": [0, 1, 1.5, "true", "", [], {}],
    "names": [
        "x",
        1,
        True,
        {},
        [1],
        [None],
        [[]],
        [""],
        ["\x01"],
        ["x" * 101],
        [f"t{n}" for n in range(101)],
    ],
    "scopes": [True, 1, "read", {}, [], ["nonsense"], [1], [[]], ["read"] * 3 + ["root"]],
    "moment": [*WORDS_OF_OTHER_TYPES, "", "yesterday", "2020-01-01T00:00:00Z", "2099-02-30", "9" * 40],
    "object": [True, 0, 1.5, "x", "", [], [{}]],
    "objects": [True, 1, "x", {}, [], [1], [[]], [None], [{"payload": {}}], ["x"], [{}] * 1001],
}
QUERY_JUNK: dict[str, list[str]] = {
    "whole": ["0", "-1", "x", "1.5", "1e3", "٣", "²", "9" * 30, "9" * 5000, "+1", "0x1", " 1", "true", "1_0"],
    "seconds": ["-1", "60.5", "nan", "inf", "-inf", "x", "1_0", "٣", "1e400", "9" * 5000, " 1", "0x1"],
    "flag": ["yes", "2", " ", "tru", "truefalse"],
    "word": ["nonsense", "x" * 5000, "<script>", "on line"],
    "words": ["nonsense", "x" * 5000, "queued,nonsense", "on line"],
    "names": ["a b", "-x", "x" * 65, "<script>", "x,a b", "ü"],
    "texts": ["x" * 201, "a," + "x" * 201],
    "ids": ["", ",", "x", "1", f"{AN_ID},x", f"{AN_ID}0", f"{{{AN_ID}}}", "x" * 5000, "ü"],
    "moment": ["yesterday", "2026-13-01T00:00:00Z", "2026-02-30", "1", "now", "9" * 40, "10000-01-01"],
    "cursor": ["nonsense!", "AAAA", "f" + "_" * 31, "x" * 5000, "ü"],
}
QUERY_JUNK["position"] = [text for text in QUERY_JUNK["whole"] if text != "0"]
NO_TEXT = [
    "%00",
    "a%00",
    "%FF",
    "%ED%A0%80",
    "%C0%80",
    "%EF%BF%BD",
]  # percent-encoded: no UTF-8, or not storable
SEVERAL = ("words", "names", "texts", "ids")  # kinds of parameters that may be repeated

# --- bodies that are no JSON object ---------------------------------------------------------------------------

MALFORMED: dict[str, bytes] = {
    "cut off": b'{"task_type": "echo"',
    "a word": b"nonsense",
    "single quotes": b"{'a': 1}",
    "a trailing comma": b'{"a": 1,}',
    "a comment": b'{"a": 1} // b',
    "two documents": b"{}{}",
    "a line break in a string": b'{"a": "\n"}',
    "NaN": b'{"payload": {"x": NaN}}',
    "Infinity": b'{"payload": {"x": -Infinity}}',
    "a number beyond floats": b'{"payload": {"x": 1e400}}',
    "ten thousand digits": b'{"payload": {"x": ' + b"9" * 10_000 + b"}}",
    "65 levels": b'{"payload":' + b'{"x":' * 64 + b"1" + b"}" * 64 + b"}",
    "levels without end": b'{"payload":' + b"[" * 100_000,
    "NUL in a string": b'{"payload": {"x": "\\u0000"}}',
    "NUL in a key": b'{"\\u0000": 1}',
    "NUL as it is": b'{"a": "\x00"}',
    "half a surrogate pair": b'{"payload": {"x": "\\ud800"}}',
    "half a surrogate pair in a key": b'{"metadata": {"\\udfff": 1}}',
    "a byte that is no UTF-8": b'{"a": "\xff"}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "Latin-1": '{"a": "ü"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a key twice": b'{"task_type": "echo", "payload": {}, "task_type": "sleep"}',
    "a key twice inside": b'{"payload": {"a": 1, "a": 2}}',
    "a list": b"[]",
    "a list of objects": b'[{"task_type": "echo", "payload": {}}]',
    "a string": b'"x"',
    "a number": b"1",
    "true": b"true",
    "null": b"null",
}
MEDIA_TYPES = [
    "",
    ";",
    "text/plain",
    "text/json",
    "application/xml",
    "application/jsonx",
    "application/json/x",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "garbage",
    "\xff\xfe",
    "x" * 5000,
]

# --- what each route takes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Door:
    """A route: a body that is right, what its fields are, and its parameters with a value that is right."""

    body: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, tuple[str, str]] = field(default_factory=dict)


REQUIREMENTS = {
    "min_cpu_cores": "whole",
    "min_memory_gb": "number",
    "min_storage_gb": "number",
    "required_platform": "word",
    "required_role": "word",
    "required_tags": "names",
    "gpu_required": "flag",
    "internet_required": "flag",
    "timeout_seconds": "whole",
    "max_retries": "whole",
    "on_device_loss": "word",
}
SUBMISSION = {
    "task_type": "text",
    "payload": "object",
    "priority": "word",
    "metadata": "object",
    "requirements": "object",
    **{f"requirements.{name}": kind for name, kind in REQUIREMENTS.items()},
}
PAGES = {"page": ("whole", "1"), "page_size": ("whole", "5")}
CURSOR = {"cursor": ("cursor", "")}
WAIT = {"wait": ("seconds", "0")}
ECHO = {"task_type": "echo", "payload": {}, "requirements": {}}
REASON = Door({"reason": "why"}, {"reason": "text"})
PLAIN = Door()
EXPIRY = {"expires_at": "moment", "expires_in_seconds": "whole"}

DOORS: dict[tuple[str, str], Door] = {
    ("GET", "api/v1"): PLAIN,
    ("GET", "api/v1/cluster/status"): PLAIN,
    ("GET", "api/v1/cluster/metrics"): PLAIN,
    ("GET", "api/v1/cluster/config"): PLAIN,
    ("GET", "api/v1/devices"): Door(
        query={
            **PAGES,
            "status": ("word", "online"),
            "role": ("word", "worker"),
            "platform": ("word", "linux"),
            "tags": ("names", "gpu"),
        }
    ),
    ("GET", "api/v1/devices/summary"): PLAIN,
    ("GET", "api/v1/devices/{}"): PLAIN,
    ("DELETE", "api/v1/devices/{}"): PLAIN,
    ("GET", "api/v1/devices/{}/status"): PLAIN,
    ("GET", "api/v1/devices/{}/metrics"): Door(query={"hours": ("whole", "5")}),
    ("POST", "api/v1/devices/{}/ping"): PLAIN,
    ("POST", "api/v1/devices/{}/cordon"): REASON,
    ("POST", "api/v1/devices/{}/uncordon"): REASON,
    ("POST", "api/v1/devices/{}/drain"): Door(
        {"reason": "why", "deadline_seconds": 5}, {"reason": "text", "deadline_seconds": "whole"}
    ),
    ("GET", "api/v1/tasks"): Door(
        query={
            **PAGES,
            **CURSOR,
            "status": ("words", "queued"),
            "task_type": ("texts", "echo"),
            "priority": ("words", "low"),
            "device_id": ("names", "nuc"),
            "created_after": ("moment", "2026-01-01"),
            "created_before": ("moment", "2026-01-01"),
        }
    ),
    ("POST", "api/v1/tasks"): Door(ECHO, SUBMISSION, {**WAIT, "dry_run": ("flag", "true")}),
    ("POST", "api/v1/tasks/batch"): Door(
        {"tasks": [ECHO, ECHO]},
        {"tasks": "objects", **{f"tasks[1].{name}": kind for name, kind in SUBMISSION.items()}},
    ),
    ("GET", "api/v1/tasks/types"): PLAIN,
    ("GET", "api/v1/tasks/results"): Door(query={"task_id": ("ids", AN_ID)}),
    ("GET", "api/v1/tasks/statistics"): PLAIN,
    ("GET", "api/v1/tasks/{}"): PLAIN,
    ("GET", "api/v1/tasks/{}/status"): Door(query=WAIT),
    ("GET", "api/v1/tasks/{}/result"): Door(query=WAIT),
    ("GET", "api/v1/tasks/{}/explain"): PLAIN,
    ("GET", "api/v1/tasks/{}/logs"): Door(query={"offset": ("position", "0"), "limit": ("whole", "5")}),
    ("POST", "api/v1/tasks/{}/cancel"): PLAIN,
    ("POST", "api/v1/tasks/{}/retry"): PLAIN,
    ("GET", "api/v1/config"): PLAIN,
    ("GET", "api/v1/config/{}"): PLAIN,
    ("PUT", "api/v1/config/{}"): Door(
        {"interval": 30},
        {"interval": "whole", "timeout": "whole", "max_missed": "whole", "reconnect_grace": "whole"},
    ),
    ("POST", "api/v1/config/reset"): PLAIN,
    ("GET", "api/v1/keys"): Door(query=PAGES),
    ("POST", "api/v1/keys"): Door(
        {"name": "n", "scopes": ["execute"]},
        {"name": "text", "scopes": "scopes", "task_types": "names", "rate_limits": "text", **EXPIRY},
    ),
    ("GET", "api/v1/keys/{}"): PLAIN,
    ("DELETE", "api/v1/keys/{}"): Door(query={"own": ("flag", "true")}),
    ("GET", "api/v1/join-tokens"): Door(query=PAGES),
    ("POST", "api/v1/join-tokens"): Door(
        {"name": "n"},
        {
            "name": "text",
            "role": "word",
            "tags": "names",
            "task_types": "names",
            "max_slots": "whole",
            "max_uses": "whole",
            **EXPIRY,
        },
    ),
    ("GET", "api/v1/join-tokens/{}"): PLAIN,
    ("DELETE", "api/v1/join-tokens/{}"): PLAIN,
    ("GET", "api/v1/audit"): Door(
        query={
            **PAGES,
            **CURSOR,
            "action": ("texts", "task.cancel"),
            "actor": ("texts", "cli"),
            "target": ("texts", "x"),
            "since": ("moment", "2026-01-01"),
            "until": ("moment", "2026-01-01"),
        }
    ),
    ("POST", "api/v1/ws-tickets"): PLAIN,
}
ROWS = sorted(DOORS)
WITH_BODY = [row for row in ROWS if row[0] != "GET"]
WITH_FIELDS = [row for row in WITH_BODY if DOORS[row].fields]
WITH_QUERY = [row for row in ROWS if DOORS[row].query]
WITH_ID = [row for row in ROWS if "{}" in row[1]]


def test_no_route_is_forgotten() -> None:
    assert DOORS.keys() == {row for row in census() if row[1].startswith("api/v1")}


def test_no_parameter_is_forgotten() -> None:
    document = yaml.safe_load(CHECKED_IN.read_text())
    described = {
        (method.upper(), "/".join("{}" if part.startswith("{") else part for part in path[1:].split("/"))): {
            item["name"] for item in operation.get("parameters", []) if item["in"] == "query"
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert described == {row: set(door.query) for row, door in DOORS.items()}


# --- the world that must stay as it is ------------------------------------------------------------------------


class World:
    """A cluster with one of each, an administrator, and what all tables held at the beginning."""

    def __init__(self, api: Api) -> None:
        device = make_device("nuc", metrics={})
        self.task = make_task()
        make_finished_task(device, status="failed")
        _, token = tokens.create("t", now=START)
        key = ApiKey.objects.get()
        self._ids = {"tasks": self.task.pk, "devices": "nuc", "keys": key.pk, "join-tokens": token.pk}
        self.api = api
        assert api.get("config").status_code == 200  # notes that the key was used
        self._before = _everything()

    def path(self, path: str, name: object = None) -> str:
        """The route's path with something in it that exists, or with this name."""
        kind = f"{path}/".split("/")[2]
        return "/" + path.replace("{}", str(name or self._ids.get(kind, "heartbeat")))

    def send(
        self, method: str, path: str, data: bytes = b"", content_type: str = JSON, **headers: str
    ) -> Any:
        return self.api.send(method, path, data=data, content_type=content_type, headers=headers)

    def changed(self) -> list[str]:
        """The tables that are no longer as they were."""
        after = _everything()
        return [label for label, rows in self._before.items() if after[label] != rows]


def _everything() -> dict[str, list[Any]]:
    ours = ("tasks", "devices", "clusterconfig")
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in apps.get_models()
        if model._meta.app_label in ours
    }


@pytest.fixture
def world(keyed: Callable[..., Api]) -> Iterator[World]:
    """Whatever is asked, nothing is stored."""
    made = World(keyed(Scope.ADMIN))
    yield made
    assert made.changed() == []


def complaint(answer: Any, status: int, name: str | None = None) -> str:
    """What is wrong with an error answer; empty when it is as it should be."""
    text = answer.content.decode()
    if answer.status_code != status:
        return f"{answer.status_code} instead of {status}: {text[:300]}"
    body = answer.json()
    if set(body) != ERROR_KEYS or body["status"] != "error" or not body["message"]:
        return f"not the envelope: {text[:300]}"
    if not TIMESTAMP.fullmatch(body["timestamp"]) or body["request_id"] != answer["X-Request-ID"]:
        return f"timestamp or request id: {text[:300]}"
    if status != 404 and body["error_code"] != BY_STATUS[status]:
        return f"code {body['error_code']}"
    if "Traceback" in text or ".py" in text or "sys." in text or len(text) > 100 * KIB:
        return f"internals, or too much: {text[:300]}"
    if name is not None and not _names(body["error_details"], name):
        return f"does not name {name}: {text[:300]}"
    return ""


def _names(details: Mapping[str, Any], name: str) -> bool:
    """Whether the details name the field, or something in it, and a reason."""
    found = str(details.get("field", ""))
    return bool(details.get("reason")) and (found == name or found.startswith((f"{name}.", f"{name}[")))


def only(complaints: Mapping[str, str]) -> dict[str, str]:
    return {label: text for label, text in complaints.items() if text}


def with_value(body: Mapping[str, Any], path: str, value: Any) -> bytes:
    """The body with another value at `a.b` or `tasks[1].a`."""
    changed = json.loads(json.dumps(body))  # a copy that shares nothing
    *way, last = path.replace("[1]", ".1").split(".")
    place = changed
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    return json.dumps(changed).encode()


# --- bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_is_no_json_object(world: World, method: str, path: str) -> None:
    url = world.path(path)

    wrong = {label: complaint(world.send(method, url, raw), 400, "body") for label, raw in MALFORMED.items()}

    assert only(wrong) == {}


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_is_too_large(world: World, method: str, path: str) -> None:
    raw = b" " * (9 * KIB * KIB if path.endswith("batch") else KIB * KIB)

    assert complaint(world.send(method, world.path(path), raw), 413) == ""


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_of_another_type(world: World, method: str, path: str) -> None:
    url = world.path(path)
    raw = json.dumps(DOORS[method, path].body).encode()

    wrong = {name: complaint(world.send(method, url, raw, name), 415) for name in MEDIA_TYPES}

    assert only(wrong) == {}


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_key_nobody_knows(world: World, method: str, path: str) -> None:
    url, door = world.path(path), DOORS[method, path]
    names = ["surprise", "x" * 100, "<script>", "__class__", "ü", ""]
    wrong = {
        name: complaint(
            world.send(method, url, json.dumps({**door.body, name: 1}).encode()), 400, name or "body"
        )
        for name in names
    }

    assert only(wrong) == {}


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_keys_without_number_make_no_long_answer(world: World, method: str, path: str) -> None:
    raw = json.dumps({f"k{number}": 0 for number in range(30_000)}).encode()

    assert complaint(world.send(method, world.path(path), raw), 400) == ""


@pytest.mark.parametrize(
    ("row", "inside"),
    [
        (("POST", "api/v1/tasks"), "requirements"),
        (("POST", "api/v1/tasks/batch"), "tasks[1]"),
        (("POST", "api/v1/tasks/batch"), "tasks[1].requirements"),
    ],
)
def test_a_key_nobody_knows_further_in(world: World, row: tuple[str, str], inside: str) -> None:
    raw = with_value(DOORS[row].body, f"{inside}.surprise", 1)

    assert complaint(world.send(row[0], world.path(row[1]), raw), 400, f"{inside}.surprise") == ""


@pytest.mark.parametrize(("method", "path"), WITH_FIELDS)
def test_a_value_of_another_kind(world: World, method: str, path: str) -> None:
    url, door = world.path(path), DOORS[method, path]
    wrong = {}
    for name, kind in door.fields.items():
        for value in JUNK[kind]:
            answer = world.send(method, url, with_value(door.body, name, value))
            wrong[f"{name} = {str(value)[:40]!r}"] = complaint(answer, 400, name)

    assert only(wrong) == {}


@pytest.mark.parametrize("section", ["server", "heartbeat", "scheduler", "retention"])
def test_a_setting_of_another_kind(world: World, section: str) -> None:
    url = world.path("api/v1/config/{}", section)
    wrong = {}
    for name in world.api.data(url):
        for value in [None, *JUNK["whole"]]:
            answer = world.send("PUT", url, json.dumps({name: value}).encode())
            wrong[f"{name} = {value!r:.40}"] = complaint(answer, 400, name)

    assert only(wrong) == {}


@pytest.mark.parametrize(
    ("task_type", "payload", "name", "values"),
    [
        ("sleep", {}, "duration", [True, "1", [], {}, -1, 86_401, 1e300, 10**400]),
        ("python_eval", {"expression": "1"}, "expression", [True, 1, [], {}, "", " ", "x" * 200_000]),
        ("python_eval", {"expression": "1"}, "variables", [True, 1, "x", [], {"a b": 1}, {"__x": 1}]),
        ("python_eval", {"expression": "1"}, "timeout", [True, "1", [], 0, -1, 10**400]),
        ("command", {"command": "x"}, "command", [True, 1, {}, "", " ", [], [1], [""]]),
        ("command", {"command": "x"}, "cwd", [True, 1, [], {}, ""]),
        ("command", {"command": "x"}, "env", [True, 1, "x", [], {"a": 1}, {"a=b": ""}, {"": ""}]),
        ("command", {"command": "x"}, "check", [0, 1, "true", [], {}]),
        (
            "http_request",
            {"url": "http://x"},
            "url",
            [True, 1, [], "", "x", "ftp://x", "http://[", "http://ü"],
        ),
        ("http_request", {"url": "http://x"}, "method", [True, 1, [], {}, "", "get", "FOO"]),
        ("http_request", {"url": "http://x"}, "headers", [True, "x", [], {"a": 1}, {"a b": ""}, {"a": "\n"}]),
        ("http_request", {"url": "http://x"}, "data", [True, 1, 1.5]),
        ("http_request", {"url": "http://x"}, "allow_private", [0, 1, "true", []]),
    ],
)
def test_a_payload_that_its_type_cannot_take(
    world: World, task_type: str, payload: dict[str, Any], name: str, values: list[Any]
) -> None:
    wrong = {}
    for value in values:
        body = {"task_type": task_type, "payload": {**payload, name: value}}
        answer = world.send("POST", "/api/v1/tasks", json.dumps(body).encode())
        wrong[f"{value!r:.40}"] = complaint(answer, 400, f"payload.{name}")

    assert only(wrong) == {}


def test_a_type_no_device_offers(world: World) -> None:
    answer = world.send("POST", "/api/v1/tasks", json.dumps({**ECHO, "task_type": "<b>"}).encode())

    assert complaint(answer, 400, "task_type") == ""


@pytest.mark.parametrize("row", [("POST", "api/v1/tasks"), ("POST", "api/v1/tasks/batch")])
def test_a_payload_that_is_too_large(world: World, row: tuple[str, str]) -> None:
    name = "payload" if row[1].endswith("tasks") else "tasks[1].payload"
    raw = with_value(DOORS[row].body, name, {"x": "y" * 257 * KIB})

    assert complaint(world.send(row[0], world.path(row[1]), raw), 413, name) == ""


# --- parameters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), WITH_QUERY)
def test_a_parameter_that_is_no_value_of_it(world: World, method: str, path: str) -> None:
    door = DOORS[method, path]
    raw = json.dumps(door.body).encode()
    wrong = {}
    for name, (kind, _) in door.query.items():
        for value in [*map(quote, QUERY_JUNK[kind]), *NO_TEXT]:
            url = f"{world.path(path)}?{name}={value}"
            wrong[f"{name}={value[:40]}"] = complaint(world.send(method, url, raw), 400, name)

    assert only(wrong) == {}


@pytest.mark.parametrize(("method", "path"), WITH_QUERY)
def test_a_parameter_of_one_value_may_stand_once(world: World, method: str, path: str) -> None:
    door = DOORS[method, path]
    raw = json.dumps(door.body).encode()
    wrong = {}
    for name, (kind, value) in door.query.items():
        if kind not in SEVERAL:
            url = f"{world.path(path)}?{name}={value}&{name}={value}"
            wrong[name] = complaint(world.send(method, url, raw), 400, name)

    assert only(wrong) == {}


@pytest.mark.parametrize(("method", "path"), [row for row in WITH_QUERY if row[0] == "GET"])
def test_every_parameter_takes_its_right_value_and_some_several(world: World, method: str, path: str) -> None:
    for name, (kind, value) in DOORS[method, path].query.items():
        times = 2 if kind in SEVERAL else 1
        url = f"{world.path(path)}?{'&'.join([f'{name}={value}'] * times)}"

        assert world.send(method, url).status_code == (404 if path.endswith("result") else 200), url


@pytest.mark.parametrize(("method", "path"), WITH_QUERY)
def test_a_parameter_of_several_values_takes_a_hundred(world: World, method: str, path: str) -> None:
    several = [name for name, (kind, _) in DOORS[method, path].query.items() if kind in SEVERAL]
    wrong = {
        name: complaint(world.send(method, f"{world.path(path)}?{name}={'x,' * 101}"), 400, name)
        for name in several
    }

    assert only(wrong) == {}


@pytest.mark.parametrize("path", ["tasks", "audit"])
def test_a_cursor_does_not_go_with_a_page(world: World, path: str) -> None:
    assert complaint(world.api.get(f"{path}?cursor=&page=1"), 400, "cursor") == ""


@pytest.mark.parametrize("path", ["tasks", "devices", "keys", "join-tokens", "audit"])
def test_a_page_beyond_the_end_is_empty(world: World, path: str) -> None:
    for page in (2, 10**6, 10**18 - 1):
        assert world.api.data(f"{path}?page={page}&page_size=100") == []


def test_a_cursor_of_another_list_does_no_harm(world: World) -> None:
    make_task()
    cursor = world.api.get("tasks?cursor=&page_size=1").json()["pagination"]["next_cursor"]

    assert world.api.get(f"audit?cursor={cursor}").status_code == 200
    world._before = _everything()


@pytest.mark.parametrize(("method", "path"), WITH_QUERY)
def test_more_than_a_thousand_parameters(world: World, method: str, path: str) -> None:
    url = f"{world.path(path)}?{'&'.join(f'p{number}=1' for number in range(1001))}"

    assert complaint(world.send(method, url), 400) == ""


# --- paths and methods ----------------------------------------------------------------------------------------

NO_IDS = [
    "%00",
    "%FF",
    "%ED%A0%80",
    "%0A",
    "%20",
    "-",
    "..",
    "%2e%2e",
    "x" * 5000,
    "%27%20OR%201=1--",
    "%F0%9F%92%A9",
]
NO_IDS += ["0", "-1", "9" * 40, "٣" * 36, "{}", "%7B550e8400-e29b-41d4-a716-446655440000%7D", "%25s", "null"]
NO_IDS += [
    "550e8400-e29b-41d4-a716-44665544000g",
    "550e8400-e29b-41d4-a716-446655440000",
    "a%00b",
    "%22",
    "%5C",
]


@pytest.mark.parametrize(("method", "path"), WITH_ID)
def test_an_id_of_nothing(world: World, method: str, path: str) -> None:
    raw = json.dumps(DOORS[method, path].body).encode()
    wrong = {}
    for name in NO_IDS:
        url = world.path(path, quote(name, safe="%."))
        wrong[name[:40]] = complaint(world.send(method, url, raw), 404)

    assert only(wrong) == {}


@pytest.mark.parametrize("path", sorted({path for _, path in ROWS}))
def test_a_method_the_path_has_not(world: World, path: str) -> None:
    others = [name for name in (*METHODS, "TRACE", "PROPFIND", "FOO") if (name, path) not in TABLE]
    answers = {name: world.send(name, world.path(path)) for name in others}

    assert only({name: complaint(answer, 405) for name, answer in answers.items()}) == {}
    allowed = {method for method, door in TABLE if door == path}
    assert all(allowed <= set(answer["Allow"].split(", ")) for answer in answers.values())


# --- headers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["tasks", "tasks/batch"])
@pytest.mark.parametrize("value", ["", "x" * 256, "ü", "a\tb", "\x7f", "\xff" * 20])
def test_an_idempotency_key_that_is_none(world: World, path: str, value: str) -> None:
    raw = json.dumps(DOORS["POST", f"api/v1/{path}"].body).encode()
    answer = world.send("POST", path, raw, **{"Idempotency-Key": value})

    assert complaint(answer, 400, "Idempotency-Key") == ""


@pytest.mark.parametrize(
    "value", ["", "x", '"', '"heartbeat.9"', 'W/"heartbeat.0"', '"heartbeat.٣"', "\xff" * 9]
)
def test_an_if_match_that_matches_nothing(world: World, value: str) -> None:
    answer = world.send("PUT", "config/heartbeat", b'{"interval": 7}', **{"If-Match": value})

    assert complaint(answer, 412, "If-Match") == ""


@pytest.mark.parametrize(("method", "path"), ROWS)
def test_an_accept_that_nothing_satisfies(world: World, method: str, path: str) -> None:
    url, raw = world.path(path), json.dumps(DOORS[method, path].body).encode()
    names = ["text/csv", "garbage", "application/json; x*=bogus''abc", "\xff\xfe", ";", "x/" + "y" * 5000]
    wrong = {name: complaint(world.send(method, url, raw, Accept=name), 406) for name in names}

    assert only(wrong) == {}


@pytest.mark.parametrize("value", ["http://[", "null", "\xff", "http://x:99999999", "//", "localhost:8081"])
def test_an_origin_that_is_none(world: World, value: str) -> None:
    answer = world.send("POST", "tasks", json.dumps(ECHO).encode(), Origin=value)

    assert complaint(answer, 403) == ""


@pytest.mark.parametrize(
    "value", ["[", "[::1", "a:b:c", "\xff", "evil.example", "localhost:x", "localhost/x", " "]
)
def test_a_host_that_is_not_ours(world: World, value: str) -> None:
    assert complaint(world.send("GET", "tasks", Host=value), 400, "Host") == ""


@pytest.mark.parametrize("value", ['"\\000aaaaaaaa"', '"\\377aaaaaaaa"', "x" * 5000, "aaaa'--", "ü" * 32])
def test_a_session_that_is_none(value: str, world: World) -> None:
    world.api = Api(Cookie=f"sessionid={value}; csrftoken={value}")

    assert world.send("GET", "tasks").status_code == 200
    assert complaint(world.send("GET", "config"), 401) == ""


@pytest.mark.parametrize(
    "path", ["tasks?page=x", "devices?role=boss", "audit?since=x", "tasks/%00", "keys/x"]
)
def test_a_browser_is_told_the_same(world: World, path: str) -> None:
    answer = world.api.get(path, headers={"Accept": "text/html"})

    assert answer.status_code in (400, 404)
    assert "error_code" in answer.content.decode()
