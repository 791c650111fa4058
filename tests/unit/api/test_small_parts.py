"""Hosts, uptimes, moments, the thread pool."""

import asyncio
import socket
import threading
from datetime import UTC, datetime

import pytest

from devices.serializers import uptime_text
from retire_cluster import hosts
from retire_cluster.api.filters import moment
from retire_cluster.api.pagination import EnvelopePagination
from retire_cluster.threadpool import ThreadPool


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (-1, None),
        (0, "0s"),
        (45.9, "45s"),
        (60, "1m"),
        (720, "12m"),
        (3599, "59m"),
        (3600, "1h 0m"),
        (9000, "2h 30m"),
        (86_399, "23h 59m"),
        (203_400, "2d 8h 30m"),
        (189_000, "2d 4h 30m"),
    ],
)
def test_uptimes_are_short(seconds: float | None, text: str | None) -> None:
    assert uptime_text(seconds) == text


@pytest.mark.parametrize(
    "name", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_loopback_is_known_in_every_form(name: str) -> None:
    assert hosts.is_loopback(name)


@pytest.mark.parametrize(
    "name", ["", "localhost.evil.example", "128.0.0.1", "0.0.0.0", "::", "1.0.0.127", "xlocalhost"]
)
def test_nothing_else_is_loopback(name: str) -> None:
    assert not hosts.is_loopback(name)


def test_the_machine_s_own_names_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "NUC.lan")
    hosts.own_names.cache_clear()
    try:
        allowed = [
            name for name in ("nuc", "nuc.lan", "nuc.local:8081", "nuc.example") if hosts.is_allowed(name, [])
        ]
    finally:
        hosts.own_names.cache_clear()

    assert allowed == ["nuc", "nuc.lan", "nuc.local:8081"]


@pytest.mark.parametrize(
    "text",
    [
        "2023-01-01T12:00:00Z",
        "2023-01-01T13:00:00+01:00",
        "2023-01-01T13:00:00 01:00",
        "2023-01-01 12:00",
        "2023-01-01T12:00",
    ],
)
def test_moments_are_read_in_their_usual_forms(text: str) -> None:
    assert moment(text) == datetime(2023, 1, 1, 12, tzinfo=UTC)


def test_a_day_is_its_start() -> None:
    assert moment("2023-01-02") == datetime(2023, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "now", "1672574400", "2023-02-30", "2023-01-01T25:00:00Z", "9999-12-31T23:59:59-23:00"]
)
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="must be a moment"):
        moment(text)


def test_the_pool_delivers_results_and_errors_to_their_callers() -> None:
    pool = ThreadPool(2, "test-pool")

    async def main() -> None:
        names = await asyncio.gather(*(pool.run(lambda: threading.current_thread().name) for _ in range(20)))
        assert {name.rsplit("-", 1)[0] for name in names} == {"test-pool"}
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)

    asyncio.run(main())
    asyncio.run(main())  # a second loop finds the threads alive


def test_the_pool_runs_a_cancelled_job_to_its_end() -> None:
    pool = ThreadPool(1, "test-pool")
    started, finish, done = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        finish.wait(10)
        done.set()

    async def main() -> int:
        task = asyncio.create_task(pool.run(job))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        finish.set()
        return await pool.run(lambda: 7)

    assert asyncio.run(main()) == 7
    assert done.is_set()


def test_an_error_page_has_no_rows() -> None:
    assert EnvelopePagination().get_results(None) == []
