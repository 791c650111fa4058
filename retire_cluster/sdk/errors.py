"""What can go wrong, as exceptions: one for each error code of the API, and those of the way to it.

Every message ends with what to do next.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from retire_cluster.sdk.models import Task


class SdkError(Exception):
    """Whatever the SDK raises. `submitted`: tasks of the same call that the server had accepted before."""

    advice: ClassVar[str] = "see docs/reference/sdk-python.md"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = advice or self.advice
        self.submitted: Sequence[Task] = ()

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}"


class ConnectionFailed(SdkError):
    """The server cannot be reached, or the connection broke before the answer was there."""

    advice = "check the address, and that retire-cluster-api runs there and listens on this network"


class Timeout(ConnectionFailed):
    """No answer came in time."""

    advice = "try again, or give the client a longer timeout="


class DeadlinePassed(SdkError):
    """A wait is over, the work is not. `task` is its state; `open` has all that are known not to be done."""

    advice = "it goes on running: wait again with a longer timeout=, look at explain(task), or cancel(task)"

    def __init__(self, message: str, task: Task, open_tasks: Sequence[Task] = ()) -> None:
        super().__init__(message)
        self.task = task
        self.open = tuple(open_tasks) or (task,)


class InvalidRequest(SdkError, ValueError):
    """What was given cannot be sent at all; nothing was."""

    advice = (
        "correct what was given: ids as the API shows them, texts without half characters, finite numbers"
    )


class UnexpectedAnswer(SdkError):
    """What answers there does not speak this API, or another version of it."""

    advice = "check that the address is that of a Retire-Cluster API, as http://HOST:8081/api/v1"


class ApiError(SdkError):
    """The server's refusal.

    `code` is the error code, `status` the HTTP status, `field` and `reason` say what is wrong where one field is
    at fault (else empty), `details` has all the server tells, `request_id` is in its log.
    """

    code: ClassVar[str] = ""
    advice = "the server's log has more under the request id"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.details = dict(details or {})
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def field(self) -> str:
        return str(self.details.get("field") or "")

    @property
    def reason(self) -> str:
        return str(self.details.get("reason") or "")


class UnknownError(ApiError):
    """A code this SDK does not know: the server is newer. `details["error_code"]` has it."""

    advice = "update retire-cluster here; the server's log has more under the request id"


class ValidationFailed(ApiError):
    code = "VALIDATION_ERROR"
    advice = "correct what it names and send it again"


class Unauthorized(ApiError):
    code = "UNAUTHORIZED"
    advice = "pass a valid key as api_key=; on the server itself it is in the data directory's file api-key"


class Forbidden(ApiError):
    code = "FORBIDDEN"
    advice = "use a key with the scope it names; an administrator makes one with create_key()"


class NotFound(ApiError):
    code = "NOT_FOUND"
    advice = "check the id and the base_url, which ends with /api/v1"


class DeviceNotFound(NotFound):
    code = "DEVICE_NOT_FOUND"
    advice = "devices() lists those there are"


class TaskNotFound(NotFound):
    code = "TASK_NOT_FOUND"
    advice = "check the id; old tasks are deleted as the section retention of the configuration says"


class ResultNotReady(NotFound):
    code = "RESULT_NOT_READY"
    advice = "wait(task) for its end first, or pass result() a timeout="


class MethodNotAllowed(ApiError):
    code = "METHOD_NOT_ALLOWED"
    advice = "the server may be older than this SDK: compare their versions"


class NotAcceptable(ApiError):
    code = "NOT_ACCEPTABLE"
    advice = "let the SDK set the Accept header"


class Conflict(ApiError):
    code = "CONFLICT"
    advice = "look at its state, which does not allow this"


class UpgradeRequired(ApiError):
    code = "UPGRADE_REQUIRED"
    advice = "let proxies in front of the server pass WebSockets on"


class IdempotencyMismatch(Conflict):
    code = "IDEMPOTENCY_MISMATCH"
    advice = "use a new idempotency_key= for another submission"


class PreconditionFailed(ApiError):
    code = "PRECONDITION_FAILED"
    advice = "read the section again and repeat the change with its etag"


class PayloadTooLarge(ApiError):
    code = "PAYLOAD_TOO_LARGE"
    advice = "send less: 256 KiB a payload; put large data where devices can fetch it"


class UnsupportedMediaType(ApiError):
    code = "UNSUPPORTED_MEDIA_TYPE"
    advice = "let the SDK set the Content-Type header"


class RateLimited(ApiError):
    code = "RATE_LIMIT_EXCEEDED"
    advice = "wait for `retry_after` seconds, use submit_many(), or have the limits of the key raised"


class ServerFailed(ApiError):
    code = "INTERNAL_ERROR"
    advice = "the server's log has the cause under the request id"


class Unavailable(ApiError):
    code = "SERVICE_UNAVAILABLE"
    advice = "try again in a moment; /health says which part is missing"


def kinds(root: type[ApiError] = ApiError) -> list[type[ApiError]]:
    """Every exception below the root that stands for an error code."""
    found = [kind for below in root.__subclasses__() for kind in (below, *kinds(below)) if kind.code]
    return list(dict.fromkeys(found))


BY_CODE = {kind.code: kind for kind in kinds()}


def from_body(status: int, body: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """The exception for an error answer."""
    code, details = str(body.get("error_code") or ""), body.get("error_details")
    details = dict(details) if isinstance(details, Mapping) else {}
    kind = BY_CODE.get(code, UnknownError)
    if kind is UnknownError:
        details["error_code"] = code
    message = str(body.get("message") or f"the server answered {status}")
    return kind(
        message,
        status=status,
        details=details,
        request_id=str(body.get("request_id") or ""),
        retry_after=retry_after,
    )
