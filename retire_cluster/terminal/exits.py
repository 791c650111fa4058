"""Exit codes; docs/reference/terminal.md lists them."""

from enum import IntEnum


class Exit(IntEnum):
    """Codes from 124 on are `run`'s, as `timeout`, `docker run` and shells use them; below is the command's own."""

    OK = 0
    FAILED = 1  # a task did not succeed, the server refused, or the cluster is not healthy
    USAGE = 2
    UNREACHABLE = 3
    TIMED_OUT = 124
    NOT_RUN = 125
    INTERRUPTED = 130


class Trouble(Exception):
    """Something a person can mend: one line on standard error, and the exit code."""

    def __init__(self, words: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(words)
        self.code = code
