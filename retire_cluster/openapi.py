"""The OpenAPI document and the pages that show it; scripts and styles come from this server."""

from typing import Any

from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

# Imported for what they add to the views.
from clusterconfig import schema as _clusterconfig
from clusterconfig.permissions import OpenRead
from devices import schema as _devices
from retire_cluster.api.renderers import EnvelopeRenderer
from retire_cluster.ops import schema as _ops
from tasks import schema as _tasks

DESCRIBED = (_clusterconfig, _devices, _ops, _tasks)


class _EnvelopeErrors(APIView):
    """Errors as everywhere under /api, whatever the view itself renders."""

    permission_classes: Any = (OpenRead,)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        self.request.accepted_renderer = EnvelopeRenderer()
        self.request.accepted_media_type = EnvelopeRenderer.media_type
        return response


class DocumentView(_EnvelopeErrors, SpectacularAPIView):
    """The document: YAML, or JSON with `?format=json`."""

    permission_classes = (OpenRead,)


class SwaggerView(_EnvelopeErrors, SpectacularSwaggerView):
    """Try the API in the browser."""

    permission_classes = (OpenRead,)
    renderer_classes: Any = (TemplateHTMLRenderer,)


class RedocView(_EnvelopeErrors, SpectacularRedocView):
    """The API to read. A page of ours: the packaged one asks elsewhere for its letters."""

    template_name = "api/redoc.html"
    permission_classes = (OpenRead,)
    renderer_classes: Any = (TemplateHTMLRenderer,)
