"""The log: JSON lines as the specification shows them, plain lines, no secret, no forged line."""

import io
import json
import logging
import re
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from retire_cluster import logs
from retire_cluster.middleware import RequestMiddleware

KEY = "rck_" + "0a" * 32


def _line(formatter: logging.Formatter, message: str, *args: Any, exc_info: Any = None, **extra: Any) -> str:
    record = logging.makeLogRecord(
        {"name": "api.test", "levelname": "INFO", "msg": message, "args": args, **extra}
    )
    record.exc_info = exc_info
    return formatter.format(record)


def test_a_request_s_line_is_the_specification_s() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JSONFormatter())
    logger = logging.getLogger("api.requests")
    logger.addHandler(handler)
    before, logger.level = logger.level, logging.INFO
    try:
        RequestMiddleware(lambda request: HttpResponse("ok"))(RequestFactory().get("/api/v1/cluster/status"))
    finally:
        logger.removeHandler(handler)
        logger.level = before
    line = json.loads(stream.getvalue())

    assert list(line) == [
        "timestamp",
        "level",
        "logger",
        "message",
        "request_id",
        "method",
        "path",
        "status_code",
        "duration_ms",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "api.requests", "Request processed")
    assert (line["method"], line["path"], line["status_code"]) == ("GET", "/api/v1/cluster/status", 200)
    assert isinstance(line["duration_ms"], float)


@pytest.mark.parametrize("formatter", [logs.JSONFormatter(), logs.PlainFormatter()])
def test_secrets_are_masked_wherever_they_stand(formatter: logging.Formatter) -> None:
    error = RuntimeError(f"key {KEY}")
    line = _line(
        formatter, "key %s and rcj1_ab_cd", KEY, token=f"x {KEY}", exc_info=(RuntimeError, error, None)
    )

    assert KEY not in line
    assert "ab_cd" not in line
    assert line.count("rck_***") == 3


@pytest.mark.parametrize("formatter", [logs.JSONFormatter(), logs.PlainFormatter()])
def test_a_client_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    line = _line(formatter, "path %s", "/x\n12:00 INFO forged\r\x1b[2J\u2028", path="/a\nb")

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_lines_of_a_request_carry_its_id() -> None:
    seen: list[dict[str, Any]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(json.loads(_line(logs.JSONFormatter(), "inside")))
        return HttpResponse("ok")

    response = RequestMiddleware(view)(RequestFactory().get("/"))

    assert seen[0]["request_id"] == response["X-Request-ID"]
    assert "request_id" not in json.loads(_line(logs.JSONFormatter(), "outside"))


def test_objects_are_not_written() -> None:
    line = json.loads(_line(logs.JSONFormatter(), "x", request=object(), action="sweep"))

    assert "request" not in line
    assert line["action"] == "sweep"


def test_a_terminal_gets_plain_lines_and_a_file_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    in_file = logs.configuration(debug=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    on_terminal = logs.configuration(debug=True)

    assert in_file["formatters"]["line"]["()"].endswith("JSONFormatter")
    assert on_terminal["formatters"]["line"]["()"].endswith("PlainFormatter")
    assert (in_file["root"]["level"], on_terminal["root"]["level"]) == ("INFO", "DEBUG")
