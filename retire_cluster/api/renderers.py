"""Answers as JSON in the envelope, and the same envelope in REST framework's browsable pages."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer

from retire_cluster.api import envelope
from retire_cluster.api.errors import Failure

_INDENT = re.compile(r";\s*indent=([0-8])\b")


class EnvelopeRenderer(BaseRenderer):
    """Puts what a view returned into the envelope: a Failure into the error's, anything else into the success's."""

    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 by definition

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        request_id = envelope.request_id((renderer_context or {})["request"])
        now = datetime.now(UTC)
        if isinstance(data, Failure):
            body = envelope.error(data, request_id=request_id, now=now)
        else:
            body = envelope.success(data, request_id=request_id, now=now)
        return envelope.dumps(body, indent=_indent(accepted_media_type)).encode(errors="replace")


def _indent(media_type: str | None) -> int | None:
    match = _INDENT.search(media_type or "")
    return int(match[1]) if match else None


class EnvelopeBrowsableRenderer(BrowsableAPIRenderer):
    """The browsable API over the same envelope. Bodies are JSON text that begins with the view's example."""

    def get_default_renderer(self, view: Any) -> BaseRenderer:
        return EnvelopeRenderer()

    def get_content(
        self, renderer: Any, data: Any, accepted_media_type: str | None, renderer_context: Any
    ) -> str:
        text: bytes = renderer.render(data, "application/json; indent=4", renderer_context)
        return text.decode()

    def get_rendered_html_form(self, data: Any, view: Any, method: str, request: Any) -> Any:
        # DELETE and OPTIONS are plain buttons; a truthy value shows them where they are allowed.
        return method in ("DELETE", "OPTIONS") and self.show_form_for_method(view, method, request, None)

    def get_raw_data_form(self, data: Any, view: Any, method: str, request: Any) -> Any:
        form = super().get_raw_data_form(data, view, method, request)
        example = getattr(view, "form_example", None)
        if form and example is not None and method in ("POST", "PUT"):
            form.initial["_content"] = envelope.dumps(example, indent=4)
        return form
