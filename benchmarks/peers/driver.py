"""The loop of a peer's client: one JSON object a line in, one out. Standard library only; copied next to no one.

`serve({"name": function})` calls `function(**arguments)` for `{"call": "name", "arguments": {...}}`. A function
returns a JSON object; what it raises is answered as `{"error": "..."}`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

END_S = 600.0  # for the tasks of a block, once all are submitted
# From the import on, what libraries print goes to standard error.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def until(condition: Callable[[], bool], pause_s: float) -> None:
    """Look again and again until all is done. Raises TimeoutError after END_S."""
    deadline = time.monotonic() + END_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all ended within {END_S:g} s")
        time.sleep(pause_s)


def serve(calls: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Until standard input ends."""
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = calls[question["call"]](**question.get("arguments", {}))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=_answers, flush=True)
