"""Which renderer answers."""

from collections.abc import Iterable
from typing import Any

from django.utils.http import parse_header_parameters
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class LenientNegotiation(DefaultContentNegotiation):
    """REST framework's, except that an unknown `?format=` is ignored like any unknown query parameter.

    Of the types in an Accept header those that cannot be read count for nothing.
    """

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
