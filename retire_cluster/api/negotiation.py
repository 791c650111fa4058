"""Which renderer answers."""

from collections.abc import Iterable
from typing import Any

from django.utils.http import parse_header_parameters
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

_ANY = "*/*"


class LenientNegotiation(DefaultContentNegotiation):
    """REST framework's, except that an unknown `?format=` is ignored like any unknown query parameter.

    Of the types in an Accept header those that cannot be read count for nothing.
    """

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> Any:
        """The first one at once for whoever takes anything or asks for just that, as nearly every program does."""
        renderers = list(renderers)
        first = renderers[0]
        by_name = format_suffix or request.query_params.get(self.settings.URL_FORMAT_OVERRIDE)
        if not by_name and request.headers.get("Accept", _ANY) in (_ANY, first.media_type):
            return first, first.media_type
        return super().select_renderer(request, renderers, format_suffix)

    def get_accept_list(self, request: Request) -> Any:
        readable = [text for text in super().get_accept_list(request) if _is_readable(text)]
        if not readable:
            raise NotAcceptable
        return readable

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> Any:  # noqa: A002 its name there
        renderers = list(renderers)
        return [renderer for renderer in renderers if renderer.format == format] or renderers


def _is_readable(media_type: str) -> bool:
    try:
        parse_header_parameters(media_type)
    except ValueError:
        return False
    return True
