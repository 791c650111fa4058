"""The Python SDK: a typed client of the REST API and of `/ws`. Needs no Django; docs/reference/sdk-python.md."""

from retire_cluster.sdk.client import Client, RetireClusterAPI
from retire_cluster.sdk.errors import (
    ApiError,
    ConnectionFailed,
    DeadlinePassed,
    InvalidRequest,
    SdkError,
    Timeout,
    UnexpectedAnswer,
)
from retire_cluster.sdk.events import Event
from retire_cluster.sdk.models import Requirements, Submission, Task

__all__ = [
    "ApiError",
    "Client",
    "ConnectionFailed",
    "DeadlinePassed",
    "Event",
    "InvalidRequest",
    "Requirements",
    "RetireClusterAPI",
    "SdkError",
    "Submission",
    "Task",
    "Timeout",
    "UnexpectedAnswer",
]
