"""Entity tags of versioned resources, and the precondition that a client saw the latest version."""

from collections.abc import Collection

from django.utils.http import parse_etags
from rest_framework.request import Request

from retire_cluster.api.errors import ApiError, ErrorCode, Failure


def etag(name: str, version: int) -> str:
    """The strong tag of a version, quotes included."""
    return f'"{name}.{version}"'


def versions_wanted(request: Request, name: str) -> Collection[int] | None:
    """The versions `If-Match` allows; None where any will do. What is no tag of this resource matches none."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    tags = parse_etags(header)
    return None if "*" in tags else {version for tag in tags for version in _version(tag, name)}


def _version(tag: str, name: str) -> Collection[int]:
    """The version in a tag of ours; weak tags never match."""
    digits = tag.removeprefix(f'"{name}.').removesuffix('"')
    is_ours = digits.isascii() and digits.isdigit() and len(digits) <= 18
    return [int(digits)] if is_ours and tag == etag(name, int(digits)) else []


def changed_meanwhile(name: str, version: int) -> ApiError:
    """412: the resource is not at the version the client saw."""
    current = etag(name, version)
    message = "it has changed since you read it; read it again, then send If-Match with its new ETag"
    details = {"field": "If-Match", "reason": message, "etag": current}
    return ApiError(Failure(412, ErrorCode.PRECONDITION_FAILED, message, details, {"ETag": current}))
