"""What the relay answers itself, in the form of the API."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from retire_cluster.api import envelope, errors
from retire_cluster.api.errors import ErrorCode, Failure

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def unavailable(send: Send, reason: str, request_id: str) -> None:
    """503, to be tried again in a moment."""
    failure = errors.unavailable(reason)
    details = {"field": "gateway", "reason": reason}
    await fail(send, Failure(failure.status, failure.code, reason, details, failure.headers), request_id)


async def not_here(send: Send, message: str, request_id: str) -> None:
    """404 for what is not relayed."""
    await fail(send, Failure(404, ErrorCode.NOT_FOUND, message), request_id)


async def not_allowed(send: Send, message: str, request_id: str, allow: str) -> None:
    """405."""
    failure = Failure(405, ErrorCode.METHOD_NOT_ALLOWED, message, headers={"Allow": allow})
    await fail(send, failure, request_id)


async def fail(send: Send, failure: Failure, request_id: str) -> None:
    """An error in the envelope."""
    body = envelope.error(failure, request_id=request_id, now=datetime.now(UTC))
    await say(send, failure.status, body, {**failure.headers, "X-Request-ID": request_id})


async def say(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """A JSON body, in the forms of times that the API has."""
    content = envelope.dumps(body).encode(errors="replace")
    sent = {
        **headers,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": content})
