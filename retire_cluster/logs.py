"""Logging: JSON lines for machines and files, plain text on a terminal. Every line has its secrets masked.

A line carries the fields of the specification: timestamp, level, logger, message, then whatever plain values the
call added with `extra=` (a request's line: request_id, method, path, status_code, duration_ms).
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from retire_cluster import env, logfiles
from retire_cluster.credentials import mask
from retire_cluster.protocol.text import UNSEEN

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being served in this context; empty outside of one."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL_IN_LINES = re.compile(r"(?![\t\n])" + UNSEEN.pattern)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """The plain values a call added; objects such as Django's `request` are not for the log."""
    added = {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and isinstance(value, (str, int, float, bool, type(None)))
    }
    served = request_id.get()
    return {"request_id": served, **added} if served else added


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "timestamp": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return mask(json.dumps(line, default=str))  # ASCII: no character can break the line


class PlainFormatter(logging.Formatter):
    """For people: local time, level, logger, message; the request's facts behind it."""

    def format(self, record: logging.LogRecord) -> str:
        message = _printable(record.getMessage())
        facts = _printable(" ".join(f"{key}={value}" for key, value in _extras(record).items()))
        stamp = self.formatTime(record, "%H:%M:%S")
        line = f"{stamp} {record.levelname} {record.name}: {message}{' ' if facts else ''}{facts}"
        if record.exc_info:
            line += "\n" + _printable(self.formatException(record.exc_info), _CONTROL_IN_LINES)
        return mask(line)


def _printable(text: str, control: re.Pattern[str] = UNSEEN) -> str:
    """Control characters escaped: what a client sent must not forge lines, drive the terminal or reorder words."""
    return control.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def file_options(path: str) -> dict[str, Any] | None:
    """What a handler of log files is made with, by the variables; None without a path. Raises env.EnvError."""
    megabytes = env.integer("LOG_FILE_MB", logfiles.DEFAULT_MB, 0, logfiles.MOST_MB)
    files = env.integer("LOG_FILES", logfiles.DEFAULT_FILES, 1, logfiles.MOST_FILES)
    if not path:
        return None
    return {"path": path, "limit_bytes": megabytes * logfiles.MEGABYTE, "files": files}


def configuration(*, debug: bool, file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The dictConfig of a server process: lines go to the file if there is one, else to standard error.

    On a terminal they go there in any case: whoever started the process by hand wants to see it work.
    """
    on_terminal = sys.stderr.isatty()
    formatter = PlainFormatter if on_terminal else JSONFormatter
    handlers: dict[str, Any] = {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}}
    if file:
        handlers["file"] = {"()": f"{logfiles.__name__}.SharedFile", "formatter": "json", **file}
    used = [name for name in handlers if name == "file" or on_terminal or not file]
    # Django and uvicorn bring handlers of their own: without them every line takes the one way below.
    quiet = {"handlers": [], "level": "WARNING", "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": f"{__name__}.{formatter.__name__}"},
            "json": {"()": f"{__name__}.{JSONFormatter.__name__}"},
        },
        "handlers": handlers,
        "root": {"handlers": used, "level": "DEBUG" if debug else "INFO"},
        "loggers": {
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            # A request's line and `api.errors` say it all; only Django's debug page bypasses those.
            "django.request": {"handlers": [], "level": "ERROR" if debug else "CRITICAL", "propagate": True},
            "django.server": quiet,
            "uvicorn.access": quiet,
            "uvicorn.error": quiet,
            # A line for each job of each second would bury everything else.
            "celery": {"handlers": [], "level": "INFO" if debug else "WARNING", "propagate": True},
            "kombu": {"handlers": [], "level": "ERROR", "propagate": True},
            "asyncio": quiet,
            # It warns at each of its tries; retire_cluster.database says once that the server is away.
            "psycopg.pool": {"handlers": [], "level": "ERROR", "propagate": True},
        },
    }
