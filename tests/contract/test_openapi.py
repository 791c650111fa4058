"""The OpenAPI document: complete, checked in as it is, and served with pages that load nothing from elsewhere."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from retire_cluster.api.errors import ErrorCode
from retire_cluster.api.schema import CODES
from tests.contract.test_census import TABLE

pytestmark = pytest.mark.django_db
CHECKED_IN = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.yaml"


@pytest.fixture(scope="module")
def text() -> str:
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return out.getvalue()


@pytest.fixture(scope="module")
def document(text: str) -> Any:
    return yaml.safe_load(text)


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_what_is_checked_in_is_what_the_code_says(text: str) -> None:
    assert CHECKED_IN.read_text() == text, "run `make openapi` and look at the difference"


def test_every_route_of_the_api_is_described(document: Any) -> None:
    described = {
        (method, "/".join("{}" if part.startswith("{") else part for part in path.strip("/").split("/")))
        for method, path, _ in operations(document)
    }
    assert described == {row for row in TABLE if row[1].startswith("api/v1")}


def test_every_operation_says_what_it_is_and_how_it_fails(document: Any) -> None:
    found = operations(document)
    names = [operation["operationId"] for _, _, operation in found]
    assert len(set(names)) == len(names)
    for method, path, operation in found:
        assert operation["summary"], path
        assert {"401", "405", "429", "503"} <= operation["responses"].keys(), path
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= operation["responses"].keys(), (method, path)


def test_reading_is_open_and_changing_needs_a_key(document: Any) -> None:
    for method, path, operation in operations(document):
        schemes = [name for item in operation["security"] for name in item]
        assert {"ApiKey", "BearerKey", "cookieAuth"} <= set(schemes), path
        rule = TABLE[(method, "/".join("{}" if p.startswith("{") else p for p in path.strip("/").split("/")))]
        assert ({} in operation["security"]) == (rule in ("read", "submit")), (method, path)


def test_every_error_code_has_a_status() -> None:
    listed = [code for codes in CODES.values() for code in codes]
    assert sorted(listed) == sorted(set(ErrorCode) - {ErrorCode.INTERNAL_ERROR, ErrorCode.UPGRADE_REQUIRED})


@pytest.mark.parametrize(("path", "kind"), [("/api/schema", "openapi"), ("/api/schema/?format=json", "json")])
def test_the_document_is_served(client: Client, path: str, kind: str) -> None:
    answer = client.get(path, headers={"Host": "localhost"})
    assert answer.status_code == 200
    assert kind in answer["Content-Type"]
    assert yaml.safe_load(answer.content)["info"]["title"] == "Retire-Cluster"


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/", "/api/redoc", "/api/redoc/"])
def test_the_pages_come_from_here_with_a_policy_of_their_own(client: Client, path: str) -> None:
    answer = client.get(path, headers={"Host": "localhost", "Accept": "text/html"})
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "https://cdn" not in page
    assert "/static/drf_spectacular_sidecar/" in page
    assert "'unsafe-eval'" not in answer["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs", "/api/redoc"])
def test_with_everything_closed_they_are_closed_too(client: Client, path: str, settings: Any) -> None:
    settings.AUTH = "all"
    assert client.get(path, headers={"Host": "localhost"}).status_code == 401
