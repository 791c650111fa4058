"""The task type `command`: a program or a line for the shell, as the agent's own account."""

import os
from collections.abc import Mapping
from typing import Any

from retire_cluster.agent.execution.capture import Capture, watched
from retire_cluster.agent.execution.processes import Ended, Program, died_of, run, signal_name
from retire_cluster.agent.execution.work import PayloadError, TaskError, Work
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import MAX_RESULT_BYTES
from retire_cluster.protocol.states import Stream

MAX_OUTPUT_BYTES = 1024 * 1024  # of each stream
SHELL = "sh"
# What programs need to find their files and speak the owner's language; nothing that may hold a secret.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "PREFIX", "LD_LIBRARY_PATH")
_PASSED_PREFIXES = ("LC_", "ANDROID_")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(environ: Mapping[str, str], given: Mapping[str, str], directory: str) -> dict[str, str]:
    """What a command sees: little of the agent's environment, a place for files, and what its author set."""
    passed = {
        name: value for name, value in environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    return {"PATH": _DEFAULT_PATH, **passed, "TMPDIR": directory, **given}


async def command(payload: dict[str, Any], work: Work) -> Any:
    """Run `command` to its end. A code other than 0 fails the task, unless `check` is false."""
    work.limit_time(payload.get("timeout"))
    asked = payload["command"]
    own = str(await work.directory())
    program = Program(
        [SHELL, "-c", asked] if isinstance(asked, str) else asked,
        env=environment(os.environ, payload.get("env") or {}, own),
        cwd=_directory(payload.get("cwd"), own),
    )
    stdout, stderr = Capture(MAX_OUTPUT_BYTES), Capture(MAX_OUTPUT_BYTES)
    ended = await run(
        work,
        program,
        stdout=watched(work, Stream.STDOUT, stdout),
        stderr=watched(work, Stream.STDERR, stderr),
    )
    if ended.spawn_error is not None:
        raise TaskError(f"cannot run {program.argv[0]!r} on this device: {ended.spawn_error}")
    if ended.code is None:
        raise TaskError(died_of(ended, ""))
    result = _result(asked, ended.code, stdout, stderr)
    if ended.code != 0 and payload.get("check") is not False:
        raise TaskError(_failure(ended, stderr), result=result)
    return result


def _directory(wanted: str | None, own: str) -> str:
    if wanted is None:
        return own
    path = os.path.join(own, os.path.expanduser(wanted))
    if not os.path.isdir(path):
        raise PayloadError("cwd", f"{wanted!r} is no directory on this device")
    return path


def _result(asked: str | list[str], code: int, stdout: Capture, stderr: Capture) -> dict[str, Any]:
    """What it printed, as much as a result can carry: JSON may need six bytes for one."""
    limit = MAX_OUTPUT_BYTES
    while True:
        result = {
            "return_code": code,
            "stdout": stdout.text(limit),
            "stderr": stderr.text(limit),
            "command": asked,
            "truncated": stdout.is_cut(limit) or stderr.is_cut(limit),
        }
        if len(jsontext.dumps_lossy(result).encode()) <= MAX_RESULT_BYTES:
            return result
        limit //= 2


def _failure(ended: Ended, stderr: Capture) -> str:
    code = ended.code or 0
    how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with code {code}"
    lines = stderr.text(4096).strip().splitlines()
    return f"the command {how}" + (f": {lines[-1][:300]}" if lines else "")
