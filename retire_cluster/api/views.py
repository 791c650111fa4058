"""Views without a model: the index, and the answer to unknown paths."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from retire_cluster.api.errors import ErrorCode, not_found

API_ROOT = "/api/v1"
LINKS = {
    "cluster_status": "cluster/status",
    "devices": "devices",
    "device": "devices/{device_id}",
    "tasks": "tasks",
    "task": "tasks/{task_id}",
    "task_status": "tasks/{task_id}/status",
    "task_result": "tasks/{task_id}/result",
    "task_types": "tasks/types",
}


class IndexView(APIView):
    """Everything this API offers, as links. Start with `devices` and `tasks`."""

    def get(self, request: Request) -> Response:
        links = {name: f"{API_ROOT}/{path}" for name, path in LINKS.items()}
        return Response({"links": {**links, "health": "/health"}})


class UnknownPathView(APIView):
    """Nothing lives here; says where the API starts."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise not_found(
            ErrorCode.NOT_FOUND, f"there is nothing at this address; {API_ROOT} lists what there is"
        )
