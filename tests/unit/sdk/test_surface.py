"""Nothing of the API is forgotten: every call has a method, every object a model, every method a test here."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
import pytest
import yaml

from retire_cluster.sdk import Client, RetireClusterAPI, SdkError, errors, events, models
from retire_cluster.sdk.decoding import Model
from tests.architecture.code import ROOT
from tests.unit.sdk.network import client, success

METHODS = ("get", "post", "put", "delete", "patch")
Use = Callable[[RetireClusterAPI], Any]
# Every method that asks the API, used once.
USES: dict[str, Use] = {
    "submit": lambda api: api.submit("echo"),
    "submit_many": lambda api: api.submit_many([{"task_type": "echo"}]),
    "dry_run": lambda api: api.dry_run("echo"),
    "tasks": lambda api: api.tasks().page(),
    "task": lambda api: api.task("ID"),
    "status": lambda api: api.status("ID"),
    "wait": lambda api: api.wait("ID", 1),
    "wait_all": lambda api: api.wait_all(["ID"], 1),
    "result": lambda api: api.result("ID"),
    "results": lambda api: list(api.results(["ID", "ID2"], 1)),
    "run": lambda api: api.run("echo"),
    "cancel": lambda api: api.cancel("ID"),
    "retry": lambda api: api.retry("ID"),
    "logs": lambda api: list(api.logs("ID")),
    "logs_page": lambda api: api.logs_page("ID"),
    "explain": lambda api: api.explain("ID"),
    "statistics": lambda api: api.statistics(),
    "types": lambda api: api.types(),
    "devices": lambda api: api.devices().page(),
    "device": lambda api: api.device("ID"),
    "device_status": lambda api: api.device_status("ID"),
    "device_metrics": lambda api: api.device_metrics("ID"),
    "devices_summary": lambda api: api.devices_summary(),
    "ping": lambda api: api.ping("ID"),
    "cordon": lambda api: api.cordon("ID"),
    "drain": lambda api: api.drain("ID"),
    "uncordon": lambda api: api.uncordon("ID"),
    "remove": lambda api: api.remove("ID"),
    "health": lambda api: api.health(),
    "index": lambda api: api.index(),
    "cluster_status": lambda api: api.cluster_status(),
    "metrics": lambda api: api.metrics(),
    "cluster_config": lambda api: api.cluster_config(),
    "config": lambda api: api.config(),
    "config_section": lambda api: api.config_section("ID"),
    "change_config": lambda api: api.change_config("ID", {}),
    "reset_config": lambda api: api.reset_config(),
    "audit": lambda api: api.audit().page(),
    "keys": lambda api: api.keys().page(),
    "key": lambda api: api.key("ID"),
    "create_key": lambda api: api.create_key("n", ["read"]),
    "revoke_key": lambda api: api.revoke_key("ID"),
    "join_tokens": lambda api: api.join_tokens().page(),
    "join_token": lambda api: api.join_token("ID"),
    "create_join_token": lambda api: api.create_join_token("n"),
    "revoke_join_token": lambda api: api.revoke_join_token("ID"),
    "ws_ticket": lambda api: api.ws_ticket(),
    "get_cluster_status": lambda api: api.get_cluster_status(),
    "submit_task": lambda api: api.submit_task("echo", {}),
}
MODELS = [
    model
    for model in vars(models).values()
    if isinstance(model, type) and issubclass(model, Model) and model not in (Model, models.Health)
]
WITHOUT_CALL = {"events", "close"}  # `/ws` is no part of the document
# Models by the document's schemas; what is not here is named alike.
NAMES = {"Audit": "AuditEntry", "CreatedTask": "Task", "TaskAction": "Task", "TaskStatus": "Task"}
NAMES |= {"TaskResult": "Result", "TaskExplanation": "Explanation", "DryRun": "Explanation"}
# Envelopes, request bodies that are arguments of methods, and configuration, whose sections are read as they are.
WITHOUT_MODEL = re.compile(
    r".*Answer|.*Section|.*Request|Error|Links|Page|Batch|Reason|Drain|Submitted.*|WholeConfig"
)


@cache
def document() -> Any:
    return yaml.safe_load((ROOT / "docs" / "reference" / "openapi.yaml").read_text())


def described() -> set[tuple[str, str]]:
    """Method and path of every call under /api/v1, as the SDK would send it with `ID` for every id."""
    return {
        (method.upper(), re.sub(r"\{\w+\}", "ID", path))
        for path, calls in document()["paths"].items()
        for method in METHODS
        if method in calls and path.startswith("/api/v1")
    }


def sent(use: Use) -> set[tuple[str, str]]:
    """What a method sends; whatever comes back is no use to it."""
    found: set[tuple[str, str]] = set()

    def answering(request: httpx.Request) -> httpx.Response:
        found.add((request.method, request.url.path))
        return success(None)

    with client(answering) as api:
        try:
            use(api)
        except SdkError:
            return found
    return found


def test_every_call_of_the_api_has_a_method() -> None:
    assert len(described()) > 30
    assert described() - {call for use in USES.values() for call in sent(use)} == set()


@pytest.mark.parametrize("name", USES)
def test_every_method_sends_a_call_that_is_described(name: str) -> None:
    found = sent(USES[name])
    assert found
    assert found <= described() | {("GET", "/health")}


def test_every_method_is_used_here() -> None:
    public = {name for name, _ in inspect.getmembers(RetireClusterAPI, inspect.isfunction) if name[0] != "_"}
    assert public - WITHOUT_CALL == USES.keys()


def test_every_method_is_tried_on_a_real_cluster() -> None:
    source = (ROOT / "tests" / "e2e" / "test_sdk.py").read_text()
    assert [name for name in [*USES, "events"] if f"api.{name}(" not in source] == []


def test_every_method_says_what_it_does() -> None:
    silent = [name for name in USES if not getattr(RetireClusterAPI, name).__doc__]
    assert silent == []


def test_the_specification_s_class_is_the_client() -> None:
    assert issubclass(RetireClusterAPI, Client)
    assert list(inspect.signature(RetireClusterAPI.__init__).parameters)[:3] == [
        "self",
        "base_url",
        "api_key",
    ]


def schemas() -> dict[str, Any]:
    found = document()["components"]["schemas"]
    return {name: schema for name, schema in found.items() if not WITHOUT_MODEL.fullmatch(name)}


@pytest.mark.parametrize("name", schemas())
def test_every_object_of_the_api_has_a_model_with_its_fields(name: str) -> None:
    model = getattr(models, NAMES.get(name, name))
    known = {item.name for item in dataclasses.fields(model)} | {
        item for item, _ in inspect.getmembers(model, lambda value: isinstance(value, property))
    }
    assert set(schemas()[name]["properties"]) - known == set()


@pytest.mark.parametrize("model", MODELS)
def test_no_model_has_a_field_that_the_api_has_not(model: type[Model]) -> None:
    # A task is a `Task` whatever call tells of it: each of them tells a part.
    of_schemas = {name: getattr(models, NAMES.get(name, name)) for name in schemas()}
    kin = [name for name, other in of_schemas.items() if issubclass(model, other) or issubclass(other, model)]
    known = {item.name for item in dataclasses.fields(model)} - {"raw"}
    assert known - {field for name in kin for field in schemas()[name]["properties"]} == set()


def test_a_submission_has_the_api_s_fields() -> None:
    known = {item.name for item in dataclasses.fields(models.Submission)}
    assert known == set(document()["components"]["schemas"]["Submission"]["properties"])


def reference() -> str:
    return (ROOT / "docs" / "reference" / "sdk-python.md").read_text()


def test_every_method_is_in_the_reference() -> None:
    assert [name for name in [*USES, *WITHOUT_CALL] if not re.search(rf"`[^`]*\b{name}\(", reference())] == []


def test_every_error_code_is_in_the_reference_with_its_exception() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `(\w+)`", reference(), re.MULTILINE))
    assert rows == {code: kind.__name__ for code, kind in errors.BY_CODE.items()}


def test_every_argument_of_the_client_is_in_the_reference() -> None:
    arguments = list(inspect.signature(Client.__init__).parameters)[1:]
    assert [name for name in arguments if f"`{name}`" not in reference()] == []


def test_every_class_of_events_is_in_the_reference() -> None:
    assert [kind.__name__ for kind in events.KINDS.values() if f"`{kind.__name__}`" not in reference()] == []
