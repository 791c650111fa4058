"""The task type `python_eval`: one expression, in an interpreter of its own with little to reach for."""

import json
import math
from collections.abc import Mapping
from typing import Any

from retire_cluster.agent.execution.answer import Answer
from retire_cluster.agent.execution.capture import Capture
from retire_cluster.agent.execution.processes import Program, child_argv, died_of, run
from retire_cluster.agent.execution.work import TaskError, Work
from retire_cluster.protocol.messages import MAX_RESULT_BYTES

MEMORY_BYTES = 512 * 1024 * 1024
MAX_ANSWER_BYTES = MAX_RESULT_BYTES
_LIMITS = {"AS": MEMORY_BYTES, "DATA": MEMORY_BYTES, "FSIZE": 0, "NOFILE": 16, "NPROC": 0}


async def python_eval(payload: dict[str, Any], work: Work) -> Any:
    """The value of `expression` with `variables`."""
    work.limit_time(payload.get("timeout"))
    expression = payload["expression"]
    request = {"expression": expression, "variables": payload.get("variables") or {}}
    program = Program(
        child_argv("evaluate"),
        env={},
        cwd=str(await work.directory()),
        stdin=json.dumps(request),
        # The wall clock ends it earlier; this holds also when the agent is stopped in the middle.
        limits={**_LIMITS, "CPU": math.ceil(work.timeout_s) + 1},
    )
    errors, answer = Capture(4096), Answer(MAX_ANSWER_BYTES)
    ended = await run(work, program, stdout=errors.write, stderr=errors.write, report=answer.write)
    if answer.is_too_long:
        raise TaskError(f"the result has {answer.size} bytes as JSON; the limit is {MAX_ANSWER_BYTES}")
    return {
        "result": _judge(answer.parsed(), died_of(ended, errors.text())),
        "expression": expression,
    }


def _judge(answer: Mapping[str, Any], otherwise: str) -> Any:
    """The result. Raises TaskError with what went wrong."""
    if "result" in answer:
        return answer["result"]
    raise TaskError(str(answer.get("error") or otherwise), answer.get("traceback"))
