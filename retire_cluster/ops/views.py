"""`/health` and the state of the cluster as a whole."""

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clusterconfig.permissions import NeedsKey
from devices.models import Device
from retire_cluster import zipapp
from retire_cluster.api import envelope
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.ops import cluster, health, services


def health_view(request: HttpRequest) -> HttpResponse:
    """200 while work flows, 503 otherwise; not in the envelope, for monitors."""
    if request.method not in ("GET", "HEAD"):
        failure = Failure(
            405, ErrorCode.METHOD_NOT_ALLOWED, "health is only read", headers={"Allow": "GET, HEAD"}
        )
        return envelope.error_response(request, failure)
    state = health.check()
    body = {
        "status": state.status,
        "timestamp": datetime.now(UTC),
        "components": state.components,
        "services": state.services,
    }
    status = 503 if state.status == services.UNHEALTHY else 200
    return HttpResponse(envelope.dumps(body), content_type="application/json", status=status)


def _agent_etag(request: HttpRequest) -> str:
    return f'"{zipapp.archive().sha256}"'


@require_safe
@condition(etag_func=_agent_etag)
def agent_view(request: HttpRequest) -> HttpResponse:
    """The agent as one file, for join lines. It is public code: no key, and no query, so it needs no database."""
    headers = {
        "Cache-Control": "no-cache",  # another version has the same address
        "Content-Disposition": f'attachment; filename="{zipapp.NAME}"',
    }
    return HttpResponse(zipapp.archive().content, content_type="application/zip", headers=headers)


class ClusterStatusView(APIView):
    """Counts and resources of all devices, and the gateway they are connected to."""

    def get(self, request: Request) -> Response:
        stats = Device.objects.members().totals()
        return Response({"cluster_stats": stats, "server_info": cluster.server_info()})


class ClusterConfigView(APIView):
    """The settings and features of the cluster, for any key."""

    permission_classes = (NeedsKey,)

    def get(self, request: Request) -> Response:
        return Response(cluster.configuration())


class ClusterMetricsView(APIView):
    """How the cluster is used and how it performs: all of it measured."""

    def get(self, request: Request) -> Response:
        return Response(cluster.metrics())
