"""`/health` and the state of the cluster as a whole."""

from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.models import Device, Gateway
from devices.serializers import uptime_text
from retire_cluster import __version__
from retire_cluster.api import envelope
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.ops import health, probe


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
    status = 503 if state.status == health.UNHEALTHY else 200
    return HttpResponse(envelope.dumps(body), content_type="application/json", status=status)


class ClusterStatusView(APIView):
    """Counts and resources of all devices, and the gateway they are connected to."""

    def get(self, request: Request) -> Response:
        return Response({"cluster_stats": Device.objects.members().totals(), "server_info": server_info()})


def server_info() -> dict[str, object]:
    """The gateway: version, time since its start, where it listens."""
    facts = probe.gateway()
    row = Gateway.objects.filter(stopped_at=None).order_by("-started_at").first()
    return {
        "version": __version__,
        "uptime": uptime_text(facts.uptime_s),
        "host": row.host if row else settings.CLUSTER_HOST,
        "port": row.port if row else settings.CLUSTER_PORT,
    }
