"""Views without a model: the index, and the answer to unknown paths."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from retire_cluster.api.errors import ErrorCode, not_found

API_ROOT = "/api/v1"
LINKS = {
    "cluster_status": "cluster/status",
    "cluster_metrics": "cluster/metrics",
    "cluster_config": "cluster/config",
    "devices": "devices",
    "devices_summary": "devices/summary",
    "device": "devices/{device_id}",
    "device_status": "devices/{device_id}/status",
    "device_ping": "devices/{device_id}/ping",
    "device_cordon": "devices/{device_id}/cordon",
    "device_uncordon": "devices/{device_id}/uncordon",
    "device_drain": "devices/{device_id}/drain",
    "tasks": "tasks",
    "tasks_batch": "tasks/batch",
    "tasks_results": "tasks/results{?task_id}",
    "tasks_statistics": "tasks/statistics",
    "task": "tasks/{task_id}",
    "task_status": "tasks/{task_id}/status",
    "task_result": "tasks/{task_id}/result",
    "task_explain": "tasks/{task_id}/explain",
    "task_cancel": "tasks/{task_id}/cancel",
    "task_retry": "tasks/{task_id}/retry",
    "task_types": "tasks/types",
    "config": "config",
    "config_section": "config/{section}",
    "config_reset": "config/reset",
    "keys": "keys",
    "join_tokens": "join-tokens",
    "audit": "audit",
    "ws_tickets": "ws-tickets",
}


class IndexView(APIView):
    """Everything this API offers, as links. Start with `devices` and `tasks`."""

    def get(self, request: Request) -> Response:
        links = {name: f"{API_ROOT}/{path}" for name, path in LINKS.items()}
        return Response({"links": {**links, "health": "/health"}})


class UnknownPathView(APIView):
    """Nothing lives here; says where the API starts."""

    name = "API"  # the first of the browsable pages' breadcrumbs

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise not_found(
            ErrorCode.NOT_FOUND, f"there is nothing at this address; {API_ROOT} lists what there is"
        )
