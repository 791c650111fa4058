"""A client of the API as a program on the same machine has it, and shorthands for what it asks."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from clusterconfig import keys, services, throttling
from retire_cluster import ops
from retire_cluster.ops import probe
from tasks import profiles


class Api:
    """Requests under /api/v1; answers are Django's, with `.json()`."""

    def __init__(self, **headers: str) -> None:
        self._client = Client(SERVER_NAME="localhost", raise_request_exception=False)
        self._headers = {"Host": "localhost:8081", **headers}

    def get(self, path: str, **extra: Any) -> Any:
        return self._client.get(
            self._url(path), headers={**self._headers, **extra.pop("headers", {})}, **extra
        )

    def post(
        self, path: str, body: Any = None, *, content_type: str = "application/json", **extra: Any
    ) -> Any:
        raw = body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = {**self._headers, **extra.pop("headers", {})}
        return self._client.post(
            self._url(path), data=raw, content_type=content_type, headers=headers, **extra
        )

    def send(self, method: str, path: str, **extra: Any) -> Any:
        headers = {**self._headers, **extra.pop("headers", {})}
        return self._client.generic(method, self._url(path), headers=headers, **extra)

    def data(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]

    @staticmethod
    def _url(path: str) -> str:
        return path if path.startswith("/") else f"/api/v1/{path}"


@pytest.fixture(autouse=True)
def _gateway_of_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test asks a real port; settings read and wrong passwords tried by one test are not another's."""
    answer = {"status": "healthy", "scheduler": "healthy", "devices_connected": 1, "uptime_s": 203_400.0}
    monkeypatch.setattr(ops, "local_gateway", lambda: answer)
    probe.forget_cached()
    services.forget_cached()
    throttling.forget()
    profiles.forget()
    yield
    services.forget_cached()


@pytest.fixture
def api() -> Api:
    """Without a key."""
    return Api()


@pytest.fixture
def keyed(db: None) -> Callable[..., Api]:
    """With a new key of some scopes."""
    from django.utils import timezone

    def make(*scopes: keys.Scope) -> Api:
        key, _ = keys.create("test", scopes, now=timezone.now())
        return Api(**{"X-API-Key": key})

    return make
