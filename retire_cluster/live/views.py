"""The handshake of `/ws`: it passes all that a request passes, so one place decides who may listen."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clusterconfig.authentication import BEARER, ApiKeyAuthentication, TicketAuthentication
from clusterconfig.permissions import OpenRead, is_known
from clusterconfig.tickets import Bearer
from retire_cluster.api.errors import ApiError, ErrorCode, Failure, FieldError, invalid
from retire_cluster.api.parameters import single
from retire_cluster.api.renderers import EnvelopeRenderer
from retire_cluster.events.frames import Cursor, Wanted
from retire_cluster.middleware import WEBSOCKET

TOPICS = ("task", "device", "cluster", "config")
NO_UPGRADE = "this is a WebSocket: connect with ws:// or wss://"


@dataclass(frozen=True, slots=True)
class Grant:
    """A client may listen. `known`: it showed who it is, which is asked again while it listens."""

    wanted: Wanted
    since: Cursor | None
    known: bool
    bearer: Bearer | None


class LiveView(APIView):
    """What happens in the cluster, as it happens. Parameters: topics, task_id, since, ticket."""

    authentication_classes = (ApiKeyAuthentication, TicketAuthentication, SessionAuthentication)
    permission_classes = (OpenRead,)
    renderer_classes = (EnvelopeRenderer,)
    schema = None  # not a resource of the API: docs/reference/events.md

    def get(self, request: Request) -> Response:
        grant = Grant(
            Wanted(frozenset(_topics(request)), _task_id(request)),
            _since(request),
            is_known(request),
            request._request.META.get(BEARER),
        )
        if WEBSOCKET not in request._request.META:
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
            raise ApiError(Failure(426, ErrorCode.UPGRADE_REQUIRED, NO_UPGRADE, {}, headers))
        response = Response(None)
        response.grant = grant  # type: ignore[attr-defined]
        return response


def grant_of(response: Any) -> Grant | None:
    """What the view granted; None for every other answer."""
    return getattr(response, "grant", None)


def _topics(request: Request) -> list[str]:
    texts = [text for part in request.query_params.getlist("topics") for text in part.split(",") if text]
    unknown = next((text for text in texts if text not in TOPICS), None)
    if unknown is not None:
        raise invalid(FieldError("topics", f"must be among {', '.join(TOPICS)}"))
    return texts


def _task_id(request: Request) -> str:
    text = single(request, "task_id")
    try:
        return str(UUID(text)) if text else ""
    except ValueError:
        raise invalid(FieldError("task_id", "must be the id of a task, a UUID")) from None


def _since(request: Request) -> Cursor | None:
    text = single(request, "since")
    try:
        return Cursor.parse(text) if text else None
    except ValueError as error:
        raise invalid(FieldError("since", str(error))) from None
