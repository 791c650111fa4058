"""Which renderer answers."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer


class LenientNegotiation(DefaultContentNegotiation):
    """REST framework's, except that an unknown `?format=` is ignored like any unknown query parameter."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> Any:  # noqa: A002 its name there
        renderers = list(renderers)
        return [renderer for renderer in renderers if renderer.format == format] or renderers
