"""A server without a gateway, and a client of it."""

from collections.abc import Iterator

import httpx
import pytest

from retire_cluster import ops
from tasks import services
from tests.integration.rest.serving import DEADLINE_S, Bridge, serving


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


@pytest.fixture
def port(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(ops, "local_gateway", lambda: {"status": "healthy", "scheduler": "healthy"})
    monkeypatch.setattr(services, "_announce", lambda: None)  # no gateway here: the test plays it
    with serving(bridge) as number:
        yield number
        bridge.close_connections()


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as http:
        yield http
