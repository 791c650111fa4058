"""`/agent.pyz`: for everybody, whatever is closed and whatever is away."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from retire_cluster import zipapp
from tests.contract.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("auth", ["", "on", "all"])
def test_it_needs_no_key_and_no_database(api: Api, settings: Any, auth: str) -> None:
    settings.AUTH = auth
    with CaptureQueriesContext(connection) as queries:
        answer = api.get("/agent.pyz")

    assert answer.status_code == 200
    assert answer.content == zipapp.archive().content
    assert len(queries) == 0


def test_who_has_it_is_told_so(api: Api) -> None:
    first = api.get("/agent.pyz")
    again = api.get("/agent.pyz", headers={"If-None-Match": first["ETag"]})
    other = api.get("/agent.pyz", headers={"If-None-Match": '"another"'})

    assert first["ETag"] == f'"{zipapp.archive().sha256}"'
    assert first["Cache-Control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


def test_it_is_only_read(api: Api) -> None:
    head = api.send("HEAD", "/agent.pyz")

    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Length"] == str(len(zipapp.archive().content))
    assert api.post("/agent.pyz").status_code == 405


def test_it_is_served_under_whatever_name_a_device_knows_the_gateway_by(api: Api) -> None:
    elsewhere = {"Host": "nuc.fritz.box:8080"}

    assert api.get("/agent.pyz", headers=elsewhere).content == zipapp.archive().content
    assert api.get("/health", headers=elsewhere).status_code == 400
