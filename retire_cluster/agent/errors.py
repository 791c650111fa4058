"""How the agent ends: every code a user's service manager may see, with its meaning."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `retire-cluster-worker`; codes above 2 are final answers of the gateway."""

    STOPPED = 0
    USAGE = 2  # a bad flag, an unusable directory, an insecure link
    REFUSED = 3  # wrong join token or device secret
    REVOKED = 4  # removed by an operator
    ID_TAKEN = 5  # another device has this id
    TOO_OLD = 6  # protocol versions do not overlap
    CLONED = 7  # the data directory is a copy, or was restored from a backup


class ConfigError(ValueError):
    """A setting is unusable; the message names the flag, the reason and what to do."""


class AgentExit(Exception):
    """The agent must end: an exit code and one line that says why and what to do next."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
