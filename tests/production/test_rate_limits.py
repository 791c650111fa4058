"""Rate limits of several API processes on one Redis: gunicorn and uvicorn together let through exactly so many."""

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from retire_cluster.api.rates import REDIS_AWAY_S
from tests import postgres
from tests.e2e.cluster import until
from tests.production.shape import Production, redis_server

LIMIT, CALLS, THREADS = 20, 60, 8
WINDOW_S = 60.0
ATTEMPTS = 5
LEFT_ALONE = "rate limits are counted per process"
MAKE_KEYS = """
from django.utils import timezone
from clusterconfig import keys
for attempt in range(5):
    for name, limits in (("limited", ""), ("other", ""), ("generous", "35/minute")):
        print(name, attempt, keys.create(name, ["read"], now=timezone.now(), rate_limits=limits)[0])
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
        rows = [line.split() for line in log.read_text().splitlines()]
        self.keys = {(name, int(attempt)): key for name, attempt, key in rows}

    def at_once(self, headers: dict[str, str], calls: int = CALLS) -> list[httpx.Response]:
        """Calls from many threads, by turns at gunicorn and uvicorn."""

        def call(number: int) -> httpx.Response:
            client = self.api if number % 2 else self.other_api
            return client.get("/api/v1/devices", headers=headers)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(call, range(calls)))


Calls = Callable[[int], list[httpx.Response]]


def undisturbed(apis: Apis, calls: Calls) -> tuple[int, list[httpx.Response]]:
    """The calls, by somebody new each time, until they met the conditions of the promise; and which time it was.

    On a machine that is too busy Redis answers too late for a process, which then counts for itself and says so; or
    the calls take longer than the window.
    """
    log = apis.directory / "shared.log"
    attempt = 0
    while attempt < ATTEMPTS:
        said, began = log.read_text().count(LEFT_ALONE), time.monotonic()
        answers = calls(attempt)
        if log.read_text().count(LEFT_ALONE) == said and time.monotonic() - began < WINDOW_S / 2:
            return attempt, answers
        attempt += 1
        time.sleep(REDIS_AWAY_S)  # before that such a process does not ask Redis again
    raise AssertionError(f"{ATTEMPTS} times Redis or the calls were too slow")


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
    _, answers = undisturbed(apis, lambda attempt: apis.at_once(coming_from(f"10.1.0.{attempt}")))

    assert statuses(answers) == {200: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)
    # A neighbour's are not touched, wherever it asks.
    for client in (apis.api, apis.other_api):
        assert client.get("/api/v1/devices", headers=coming_from("10.1.1.1")).status_code == 200


def test_one_after_the_other_each_process_counts_on_from_the_other(apis: Apis) -> None:
    def calls(attempt: int) -> list[httpx.Response]:
        headers = coming_from(f"10.2.0.{attempt}")
        return [client.get("/api/v1/devices", headers=headers) for client in [apis.api, apis.other_api] * 5]

    _, answers = undisturbed(apis, calls)

    remaining = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert remaining == list(range(LIMIT - 1, LIMIT - 11, -1))
    resets = {int(answer.headers["X-RateLimit-Reset"]) for answer in answers}
    assert max(resets) - min(resets) <= 2, "all tell the same moment, up to a rounded second"


def test_a_key_gets_exactly_its_calls_from_all_its_addresses_together(apis: Apis) -> None:
    def calls(attempt: int) -> list[httpx.Response]:
        key = apis.keys["limited", attempt]
        with ThreadPoolExecutor(3) as pool:
            groups = [
                pool.submit(
                    apis.at_once, coming_from(f"10.3.{attempt}.{number}", **{"X-API-Key": key}), CALLS // 3
                )
                for number in range(3)
            ]
            return [answer for group in groups for answer in group.result()]

    attempt, answers = undisturbed(apis, calls)

    assert statuses(answers) == {200: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)
    headers = coming_from(f"10.3.{attempt}.0", **{"X-API-Key": apis.keys["other", attempt]})
    assert apis.api.get("/api/v1/devices", headers=headers).status_code == 200


def test_a_key_with_limits_of_its_own_gets_exactly_those(apis: Apis) -> None:
    def calls(attempt: int) -> list[httpx.Response]:
        headers = {"X-API-Key": apis.keys["generous", attempt]}
        return apis.at_once(coming_from(f"10.4.0.{attempt}", **headers))

    _, answers = undisturbed(apis, calls)

    assert statuses(answers) == {200: 35, 429: CALLS - 35}


def test_trying_keys_is_limited_to_the_same_number(apis: Apis) -> None:
    def calls(attempt: int) -> list[httpx.Response]:
        return apis.at_once(coming_from(f"10.5.0.{attempt}", **{"X-API-Key": "rck_guess"}))

    _, answers = undisturbed(apis, calls)

    assert statuses(answers) == {401: LIMIT, 429: CALLS - LIMIT}
    check_headers(answers)


def test_the_processes_share_a_log_file_and_tear_no_line(apis: Apis) -> None:
    file = apis.directory / "shared.log"
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    served = [line for line in lines if line.get("path") == "/api/v1/devices"]
    assert len(served) >= CALLS
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")], lines
