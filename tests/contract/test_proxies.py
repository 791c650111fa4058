"""Behind a proxy that speaks TLS: what it says counts, what anybody else says does not."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.test import Client

from retire_cluster.gateway import app

pytestmark = pytest.mark.django_db
PROXY, STRANGER = "10.0.0.1", "10.0.0.2"


@pytest.fixture(autouse=True)
def trusted(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [PROXY]


def login_page(peer: str, scheme: str) -> Any:
    client = Client(SERVER_NAME="localhost", REMOTE_ADDR=peer)
    return client.get("/admin/login/", headers={"X-Forwarded-Proto": scheme})


@pytest.mark.parametrize("scheme", ["https", " HTTPS "])
def test_cookies_are_for_https_only_where_the_proxy_speaks_it(scheme: str) -> None:
    page = login_page(PROXY, scheme)
    assert page.wsgi_request.is_secure()
    assert page.cookies["csrftoken"]["secure"]


@pytest.mark.parametrize(("peer", "scheme"), [(PROXY, "http"), (STRANGER, "https"), ("", "https")])
def test_nobody_else_says_what_the_client_speaks(peer: str, scheme: str) -> None:
    page = login_page(peer, scheme)
    assert not page.wsgi_request.is_secure()
    assert not page.cookies["csrftoken"]["secure"]


def test_a_form_of_the_proxy_s_own_site_is_taken() -> None:
    """Django compares its Origin with scheme and host."""
    client = Client(HTTP_HOST="localhost", REMOTE_ADDR=PROXY, enforce_csrf_checks=True)
    https = {"X-Forwarded-Proto": "https"}
    client.get("/admin/login/", headers=https)
    fields = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value, "username": "x", "password": "y"}
    codes = [
        client.post("/admin/login/", fields, headers={**https, "Origin": f"{scheme}://localhost"}).status_code
        for scheme in ("https", "http")
    ]
    assert codes == [200, 403]  # 200: the form again, as nobody has that name


@pytest.mark.parametrize(
    ("peer", "forwarded", "device"),
    [
        (PROXY, ["192.168.1.7"], "192.168.1.7"),
        (PROXY, ["1.2.3.4, 192.168.1.7"], "192.168.1.7"),
        (PROXY, ["1.2.3.4", "192.168.1.7"], "192.168.1.7"),
        (STRANGER, ["192.168.1.7"], STRANGER),
        (PROXY, [], PROXY),
    ],
)
def test_the_gateway_counts_devices_not_the_proxy(peer: str, forwarded: Sequence[str], device: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert app._address({"client": (peer, 1234), "headers": headers}) == device
