"""The task type `http_request`: made by a process of its own, never to the device's surroundings unasked."""

import json
import os
from typing import Any

from retire_cluster import __version__
from retire_cluster.agent.execution.answer import Answer
from retire_cluster.agent.execution.capture import Capture
from retire_cluster.agent.execution.handlers import Handler
from retire_cluster.agent.execution.processes import Program, child_argv, died_of, run
from retire_cluster.agent.execution.work import TaskError, Work
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import MAX_RESULT_BYTES

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 1 MiB of text as ASCII JSON, and the headers
_LIMITS = {"AS": 512 * 1024 * 1024, "FSIZE": 0, "NOFILE": 64}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def http_request(*, consent: bool) -> Handler:
    """A handler; `consent` is the device owner's to requests to private addresses."""

    async def run_it(payload: dict[str, Any], work: Work) -> Any:
        work.limit_time(payload.get("timeout"))
        program = Program(
            child_argv("fetch"),
            env={name: os.environ[name] for name in _CERTIFICATES if name in os.environ},
            cwd=str(await work.directory()),
            stdin=json.dumps({**_request(payload), "consent": consent}),
            limits=_LIMITS,
        )
        errors, answer = Capture(4096), Answer(MAX_ANSWER_BYTES)
        ended = await run(work, program, stdout=errors.write, stderr=errors.write, report=answer.write)
        found = answer.parsed()
        if "status_code" not in found:
            raise TaskError(str(found.get("error") or died_of(ended, errors.text())))
        return _fitting(dict(found))

    return run_it


def _request(payload: dict[str, Any]) -> dict[str, Any]:
    data, headers = payload.get("data"), dict(payload.get("headers") or {})
    given = {name.lower() for name in headers}
    if isinstance(data, (dict, list)):
        data = json.dumps(data)
        if "content-type" not in given:
            headers["Content-Type"] = "application/json"
    if "user-agent" not in given:
        headers["User-Agent"] = f"retire-cluster/{__version__}"
    if "accept-encoding" not in given:
        headers["Accept-Encoding"] = "identity"
    return {
        "url": payload["url"],
        "method": payload.get("method") or "GET",
        "headers": headers,
        "body": data,
        "allow_private": payload.get("allow_private") is True,
    }


def _fitting(result: dict[str, Any]) -> dict[str, Any]:
    """As much of the content as a result can carry: JSON may need six bytes for one."""
    while len(jsontext.dumps_lossy(result).encode()) > MAX_RESULT_BYTES and result["content"]:
        result["content"] = result["content"][: len(result["content"]) // 2]
        result["truncated"] = True
    return result
