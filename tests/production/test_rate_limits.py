"""Rate limits of several API processes on one Redis: gunicorn and uvicorn together let through exactly so many."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests import postgres
from tests.e2e.cluster import until
from tests.production.shape import Production, redis_server

LIMIT, CALLS, THREADS = 20, 60, 8
MAKE_KEYS = """
from django.utils import timezone
from clusterconfig import keys
for name, limits in (("limited", ""), ("other", ""), ("generous", "35/minute")):
    print(name, keys.create(name, ["read"], now=timezone.now(), rate_limits=limits)[0])
"""


class Apis(Production):
    """The API processes alone. Each client of a test comes from an address of its own, through a trusted proxy."""

    def start_apis(self) -> None:
        self.variables["RETIRE_CLUSTER_RATE_LIMITS"] = f"{LIMIT}/minute;1000/hour"
        self.variables["RETIRE_CLUSTER_TRUSTED_PROXIES"] = "127.0.0.1"
        self.variables["RETIRE_CLUSTER_LOG_FILE"] = str(self.directory / "shared.log")
        self.run("retire-cluster-manage", "migrate", "--verbosity", "0")
        where = f"127.0.0.1:{self.port}"
        self._spawn("gunicorn", "gunicorn", "-w", "2", "-b", where, "retire_cluster.api.wsgi:app")
        here = ("--port", str(self.other_port))
        self._spawn("uvicorn", "uvicorn", *here, "retire_cluster.asgi:application")
        for client in (self.api, self.other_api):
            # Healthy it is not: no gateway runs.
            until(lambda client=client: client.get("/health").status_code, "an API process")  # type: ignore[misc]

    def make_keys(self) -> None:
        """Keys that may read, by their names."""
        log = self.directory / "keys.log"
        self.run("retire-cluster-manage", "shell", "-v", "0", "-c", MAKE_KEYS, log=log)
        self.keys = dict(line.split() for line in log.read_text().splitlines())

    def at_once(self, headers: dict[str, str], calls: int = CALLS) -> list[httpx.Response]:
        """Calls from many threads, by turns at gunicorn and uvicorn."""

        def call(number: int) -> httpx.Response:
            client = self.api if number % 2 else self.other_api
            return client.get("/api/v1/devices", headers=headers)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(call, range(calls)))


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apis]:
    directory = tmp_path_factory.mktemp("limits")
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running())
        redis = stack.enter_context(redis_server(directory))
        found = Apis(directory / "cluster", database, redis)
        stack.callback(found.stop)
        found.data_dir.mkdir(parents=True)
        found.start_apis()
        found.make_keys()
        yield found


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


def coming_from(address: str, **headers: str) -> dict[str, str]:
    return {"X-Forwarded-For": address, **headers}


def check_headers(answers: list[httpx.Response]) -> None:
    """Each answer tells the limit and what is left; who is refused learns when to come again."""
    for answer in answers:
        assert answer.headers["X-RateLimit-Limit"] == str(LIMIT)
        remaining = int(answer.headers["X-RateLimit-Remaining"])
        if answer.status_code == 429:
            assert remaining == 0
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json()["error_code"] == "RATE_LIMIT_EXCEEDED"
        else:
            assert 0 <= remaining < LIMIT


def test_an_address_gets_exactly_its_calls(apis: Apis) -> None:
    answers = apis.at_once(coming_from("192.0.2.1"))

    assert statuses(answers) == {200: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)
    # A neighbour's are not touched, wherever it asks.
    for client in (apis.api, apis.other_api):
        assert client.get("/api/v1/devices", headers=coming_from("192.0.2.2")).status_code == 200


def test_one_after_the_other_each_process_counts_on_from_the_other(apis: Apis) -> None:
    clients = [apis.api, apis.other_api] * 5
    answers = [client.get("/api/v1/devices", headers=coming_from("192.0.2.3")) for client in clients]

    remaining = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert remaining == list(range(LIMIT - 1, LIMIT - 11, -1))
    resets = {int(answer.headers["X-RateLimit-Reset"]) for answer in answers}
    assert max(resets) - min(resets) <= 2, "all tell the same moment, up to a rounded second"


def test_a_key_gets_exactly_its_calls_from_all_its_addresses_together(apis: Apis) -> None:
    key = apis.keys["limited"]
    with ThreadPoolExecutor(3) as pool:
        groups = [
            pool.submit(apis.at_once, coming_from(f"192.0.2.{10 + number}", **{"X-API-Key": key}), CALLS // 3)
            for number in range(3)
        ]
        answers = [answer for group in groups for answer in group.result()]

    assert statuses(answers) == {200: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)
    headers = coming_from("192.0.2.10", **{"X-API-Key": apis.keys["other"]})
    assert apis.api.get("/api/v1/devices", headers=headers).status_code == 200


def test_a_key_with_limits_of_its_own_gets_exactly_those(apis: Apis) -> None:
    answers = apis.at_once(coming_from("192.0.2.20", **{"X-API-Key": apis.keys["generous"]}))

    assert statuses(answers) == {200: 35, 429: CALLS - 35}


def test_trying_keys_is_limited_to_the_same_number(apis: Apis) -> None:
    answers = apis.at_once(coming_from("192.0.2.30", **{"X-API-Key": "rck_guess"}))

    assert statuses(answers) == {401: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)


def test_the_processes_share_a_log_file_and_tear_no_line(apis: Apis) -> None:
    file = apis.directory / "shared.log"
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    served = [line for line in lines if line.get("path") == "/api/v1/devices"]
    assert len(served) >= CALLS
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")], lines
