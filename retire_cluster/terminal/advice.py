"""What a person at a terminal does next: the SDK's advice is for programs, and names its methods and arguments."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from retire_cluster.sdk import errors
from retire_cluster.sdk.calls import BAD_CERTIFICATE
from retire_cluster.sdk.errors import SdkError
from retire_cluster.terminal.exits import Trouble

_LOG = "the server's log has more under the request id"
ADVICE: Mapping[type[SdkError], str] = {
    SdkError: "docs/reference/terminal.md has more",
    errors.ConnectionFailed: "check the address, and that retire-cluster-api runs there and listens on "
    "this network",
    errors.Timeout: "try again in a moment; where that does not help, look at the server's log",
    errors.DeadlinePassed: "it goes on: `retire-cluster result --wait TASK` waits on, `retire-cluster explain "
    "TASK` says where it can run, `retire-cluster cancel TASK` ends it",
    errors.InvalidRequest: "correct what was given: ids as they are listed, texts without half characters, "
    "finite numbers",
    errors.UnexpectedAnswer: "check that the address is that of a Retire-Cluster server, as http://HOST:8081",
    errors.ApiError: _LOG,
    errors.UnknownError: f"update retire-cluster here; {_LOG}",
    errors.ValidationFailed: "correct what it names and repeat the command",
    errors.Unauthorized: "give a valid key with --api-key KEY or RETIRE_CLUSTER_API_KEY; on the server itself it "
    "is in the data directory's file api-key",
    errors.Forbidden: "use a key with the scope it names; an administrator makes one with `retire-cluster keys "
    "create NAME --scopes A,B`",
    errors.NotFound: "check the id, and that the server is not older than this command",
    errors.DeviceNotFound: "`retire-cluster devices` lists those there are",
    errors.TaskNotFound: "`retire-cluster tasks` lists the newest; old tasks are deleted as `retire-cluster config "
    "retention` says",
    errors.ResultNotReady: "`retire-cluster result --wait TASK` waits for its end",
    errors.MethodNotAllowed: "the server may be older than this command: compare their --version",
    errors.NotAcceptable: "the server may be older than this command: compare their --version",
    errors.Conflict: "look at its state, which does not allow this: `retire-cluster tasks TASK`, or "
    "`retire-cluster devices DEVICE`",
    errors.UpgradeRequired: "let proxies in front of the server pass WebSockets on",
    errors.IdempotencyMismatch: "repeat the command",
    errors.PreconditionFailed: "somebody else changed it at the same time: repeat the command",
    errors.PayloadTooLarge: "send less: 256 KiB a payload; put large data where devices can fetch it",
    errors.UnsupportedMediaType: "the server may be older than this command: compare their --version",
    errors.RateLimited: "wait for so long, submit many with `retire-cluster submit --file`, or have an "
    "administrator make a key with `retire-cluster keys create NAME --rate-limits LIMITS`",
    errors.ServerFailed: _LOG,
    errors.Unavailable: "try again in a moment; `retire-cluster-status` says which part is missing",
}
# What the client says of arguments that flags and variables gave.
_ARGUMENTS = {"base_url is": "the address is", "api_key holds": "the API key holds", "ca=": "--ca "}


def said(error: SdkError) -> str:
    """What went wrong, and what to do next."""
    return f"{_message(error)}; {_next_step(error)}"


def _message(error: SdkError) -> str:
    status = error.details.get("status") if isinstance(error, errors.ResultNotReady) else None
    return f"the task is {status}" if status else error.message  # the server's words tell how to ask its API


def _next_step(error: SdkError) -> str:
    if error.next_step == BAD_CERTIFICATE:
        return "give the authority's certificate with --ca FILE, and use the name that the certificate is for"
    return next(ADVICE[kind] for kind in type(error).__mro__ if kind in ADVICE)


def of_arguments(error: Exception) -> str:
    """What the client says of its arguments, in the names they have here."""
    words = "|".join(map(re.escape, _ARGUMENTS))
    return re.sub(f"^(?:{words})", lambda found: _ARGUMENTS[found.group()], str(error))


@contextmanager
def where_missing(next_step: str) -> Iterator[None]:
    """What to do where a thing is not there: which list it is not in."""
    try:
        yield
    except errors.NotFound as error:
        raise Trouble(f"{error.message}; {next_step}") from None
