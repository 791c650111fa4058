"""The built-in task types, and what their payloads may hold: checked at submit, and again by the device."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

HARMLESS_TYPES = ("echo", "sleep", "system_info")
BUILTIN_TYPES = (*HARMLESS_TYPES, "python_eval", "http_request", "command")

MAX_SLEEP_S = 86_400
MAX_TIMEOUT_S = 86_400
MAX_EXPRESSION = 100_000  # characters
MAX_ARGUMENT_BYTES = 128 * 1024 - 1  # what Linux takes as one argument of a program
MAX_ARGUMENTS = 1000
MAX_PAIRS = 200  # environment variables or headers
MAX_URL = 8192
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110, 5.6.2
# These say how the request itself is framed: it is not for its author to contradict it.
_FRAMING = ("content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect")

Problem = tuple[str, str]


def problems(task_type: str, payload: Mapping[str, Any]) -> list[Problem]:
    """Each wrong field with the reason. Keys a type does not use are the client's own, null counts as absent."""
    check = _CHECKS.get(task_type)
    if check is None:
        return []
    return list(check({name: value for name, value in payload.items() if value is not None}))


Payload = Mapping[str, Any]


def _sleep(payload: Payload) -> Iterator[Problem]:
    yield from _number(payload, "duration", 0, MAX_SLEEP_S)


def _python_eval(payload: Payload) -> Iterator[Problem]:
    yield from _timeout(payload)
    expression = payload.get("expression")
    if not isinstance(expression, str) or not expression.strip():
        yield "expression", "must be a Python expression, as a string"
    elif len(expression) > MAX_EXPRESSION:
        yield "expression", f"may have {MAX_EXPRESSION} characters"
    variables = payload.get("variables", {})
    if not isinstance(variables, dict):
        yield "variables", "must be an object: values by name"
        return
    for name in variables:
        if not name.isidentifier() or name.startswith("__"):
            yield "variables", f"{name[:40]!r} cannot be the name of a variable"


def _command(payload: Payload) -> Iterator[Problem]:
    yield from _timeout(payload)
    yield from _command_line(payload.get("command"))
    cwd = payload.get("cwd", ".")
    if not isinstance(cwd, str) or not cwd or "\0" in cwd or len(cwd) > 4096:
        yield "cwd", "must be the path of a directory on the device"
    if not isinstance(payload.get("check", True), bool):
        yield "check", "must be true or false"
    yield from _pairs(payload, "env", _variable_problem)


def _command_line(command: Any) -> Iterator[Problem]:
    if isinstance(command, str):
        words = [command]
    elif isinstance(command, list) and all(isinstance(word, str) for word in command):
        words = command
    else:
        yield "command", "must be a string for the shell, or a list of strings: a program and its arguments"
        return
    if not words or not words[0].strip():
        yield "command", "must not be empty"
    if len(words) > MAX_ARGUMENTS:
        yield "command", f"may have {MAX_ARGUMENTS} words"
    if any("\0" in word for word in words):
        yield "command", "must not contain the NUL character"
    if any(len(word.encode(errors="replace")) > MAX_ARGUMENT_BYTES for word in words):
        yield "command", f"no part may have more than {MAX_ARGUMENT_BYTES} bytes: send long text as a file"


def _http_request(payload: Payload) -> Iterator[Problem]:
    yield from _timeout(payload)
    if (reason := url_problem(payload.get("url"))) is not None:
        yield "url", reason
    if payload.get("method", "GET") not in METHODS:
        yield "method", f"must be one of {', '.join(METHODS)}"
    if not isinstance(payload.get("data", ""), (str, dict, list)):
        yield "data", "must be a string, sent as it is, or an object or list, sent as JSON"
    if not isinstance(payload.get("allow_private", False), bool):
        yield "allow_private", "must be true or false"
    yield from _pairs(payload, "headers", _header_problem)


def url_problem(url: Any) -> str | None:
    """Why this is no URL to be asked for; None when it is one."""
    if not isinstance(url, str) or not 1 <= len(url) <= MAX_URL:
        return f"must be a URL of 1 to {MAX_URL} characters"
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "must be ASCII without blanks: encode other characters with %, names with punycode"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname or port == 0 or "\\" in parts.netloc:
        return "must name a host"
    if "@" in parts.netloc:
        return "must not contain a user name or password: send an Authorization header"
    return None


def _timeout(payload: Payload) -> Iterator[Problem]:
    yield from _number(payload, "timeout", 0, MAX_TIMEOUT_S, above=True)


def _number(
    payload: Payload, name: str, low: float, high: float, *, above: bool = False
) -> Iterator[Problem]:
    value = payload.get(name, high)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (above and value == low):  # NaN is in no range
        start = f"more than {low:g} and at most" if above else f"from {low:g} to"
        yield name, f"must be a number {start} {high:g}"


def _pairs(payload: Payload, name: str, problem: Callable[[str, str], str | None]) -> Iterator[Problem]:
    pairs = payload.get(name, {})
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        yield name, "must be an object of strings"
        return
    if len(pairs) > MAX_PAIRS:
        yield name, f"may have {MAX_PAIRS} entries"
    for key, value in pairs.items():
        if (reason := problem(key, value)) is not None:
            yield name, reason


def _variable_problem(name: str, value: str) -> str | None:
    if not name or "=" in name or "\0" in name:
        return f"{name[:40]!r} cannot be the name of an environment variable"
    if "\0" in value or len(value.encode(errors="replace")) > MAX_ARGUMENT_BYTES - len(name):
        return f"{name[:40]}: the value must have less than {MAX_ARGUMENT_BYTES} bytes and no NUL character"
    return None


def _header_problem(name: str, value: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return f"{name[:40]!r} cannot be the name of a header"
    if name.lower() in _FRAMING:
        return f"{name}: is set by the device itself"
    if any(character < " " and character != "\t" for character in value) or "\x7f" in value:
        return f"{name}: the value must not contain control characters"
    if len(value) > MAX_URL or any(character > "\xff" for character in value):
        return f"{name}: the value must be at most {MAX_URL} characters of Latin-1"
    return None


_CHECKS: dict[str, Callable[[Payload], Iterator[Problem]]] = {
    "sleep": _sleep,
    "python_eval": _python_eval,
    "command": _command,
    "http_request": _http_request,
}
